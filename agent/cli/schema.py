"""`outrigger schema`: the JSON schema of the configuration, for editors and other tools."""

import argparse
import json

from agent.cli.arguments import Commands

_DESCRIPTION = """Print the JSON schema (draft 2020-12) of the configuration. Editors check and complete with it:
write it to a file and put `# yaml-language-server: $schema=FILE` into the first line of the configuration."""


def add(commands: Commands) -> None:
    """Declare the command."""
    commands.add_parser("schema", help="print the JSON schema of the configuration", description=_DESCRIPTION)


def call(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    del arguments
    from agent.config.schema import json_schema  # noqa: PLC0415  pydantic takes a quarter of a second

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0
