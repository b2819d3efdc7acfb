"""`python -m agent` and the `outrigger` command."""

import sys


def main() -> int:
    """Run the command line and return its exit status."""
    from agent.cli.main import main as command_line  # noqa: PLC0415  importing the package must cost nothing

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
