"""`outrigger COMMAND …`: find the command, read its arguments, call it. Heavy imports wait inside the commands."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol

from agent.cli import check, explain, run, schema, version
from agent.cli.arguments import Commands
from agent.cli.terminal import paint_for


class Command(Protocol):
    """A command's module."""

    def add(self, commands: Commands) -> None:
        """Declare the command and its arguments."""
        ...

    def call(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit status."""
        ...


COMMANDS: dict[str, Command] = {"run": run, "check": check, "explain": explain, "schema": schema, "version": version}


class _Parser(argparse.ArgumentParser):
    """Errors that say what is wrong first and where help is, instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        paint = paint_for(sys.stderr)
        print(f"{paint('error', 'error')}: {message}\nRun `{self.prog} --help` for what there is.", file=sys.stderr)
        sys.exit(2)


def build() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="outrigger",
        description="A sidecar for API platforms: one small process beside each application.",
        epilog="`outrigger COMMAND --help` says more about each command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="the same as `outrigger version`")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for module in COMMANDS.values():
        module.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 well, 1 the thing itself failed, 2 called wrongly."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    unknown = _unknown_command(arguments)
    if unknown:
        print(unknown, file=sys.stderr)
        return 2
    try:
        parsed = build().parse_args(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    if parsed.version:
        parsed.command = "version"
    if parsed.command is None:
        build().print_help(sys.stderr)
        return 2
    return _call(parsed)


def _call(parsed: argparse.Namespace) -> int:
    try:
        return COMMANDS[parsed.command].call(parsed)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): nothing is wrong. Python would complain while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _unknown_command(arguments: Sequence[str]) -> str:
    """A message about a command that doesn't exist, ``""`` where it does: argparse's own suggests nothing."""
    if not arguments or arguments[0].startswith("-") or arguments[0] in COMMANDS:
        return ""
    from agent.config.suggest import did_you_mean  # noqa: PLC0415  only where something is wrong

    guess = did_you_mean(arguments[0], COMMANDS)
    error = paint_for(sys.stderr)("error", "error")
    known = ", ".join(COMMANDS)
    return f"{error}: there is no command `{arguments[0]}`. {guess}\nCommands: {known}.".replace(" \n", "\n")
