"""`outrigger run`: start the sidecar and stay until it is told to end."""

import argparse
import sys

from agent.cli.arguments import Commands, add_config
from agent.cli.terminal import paint_for

_DESCRIPTION = """Start the sidecar with a configuration and run until SIGTERM or Ctrl-C. SIGHUP, or a change of the
file, loads it again without dropping a request; a file with errors is refused and the old configuration stays."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("run", help="start the sidecar", description=_DESCRIPTION)
    add_config(parser)


def call(arguments: argparse.Namespace) -> int:
    """Run; 1 where the configuration is wrong or an address is taken."""
    from agent.app import run  # noqa: PLC0415  everything is below it
    from agent.config.errors import ConfigError, render  # noqa: PLC0415
    from agent.core.errors import OutriggerError  # noqa: PLC0415

    paint = paint_for(sys.stderr)
    try:
        return run(arguments.config)
    except ConfigError as error:
        print(render(error.file, error.findings, paint), file=sys.stderr)
    except OutriggerError as error:
        print(f"{paint('error', 'error')}: {error}", file=sys.stderr)
    return 1
