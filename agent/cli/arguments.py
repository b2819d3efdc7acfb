"""What several commands take: the configuration file."""

import argparse
import os
from typing import Protocol

ENVIRONMENT_NAME = "OUTRIGGER_CONFIG"
DEFAULT_FILE = "outrigger.yaml"


class Commands(Protocol):
    """The part of argparse's sub-parsers that commands need."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:  # noqa: A002  argparse's
        """Begin a command."""
        ...


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `-c FILE`."""
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default=os.environ.get(ENVIRONMENT_NAME) or DEFAULT_FILE,
        help=f"configuration file (default: ${ENVIRONMENT_NAME}, or ./{DEFAULT_FILE})",
    )
