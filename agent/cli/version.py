"""`outrigger version`: which version this is, and of what it is made."""

import argparse
import platform

from agent import __version__
from agent.cli.arguments import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    text = "Print the version of Outrigger and of what it runs on."
    commands.add_parser("version", help="print the version", description=text)


def call(arguments: argparse.Namespace) -> int:
    """Print one line."""
    del arguments
    print(f"outrigger {__version__} ({platform.python_implementation()} {platform.python_version()})")
    return 0
