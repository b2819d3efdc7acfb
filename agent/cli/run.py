"""`outrigger run`: start the sidecar and stay until it is told to end."""

import argparse
import signal
import sys
from types import FrameType
from typing import NoReturn

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
    _end_well_when_told()
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


def _end_well_when_told() -> None:
    """Until the event loop takes signals over: as process 1 of a container we would otherwise not hear SIGTERM at all,
    and a SIGHUP (read the configuration again) would be the end.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
