"""`python -m agent` and the `outrigger` command."""

import os
import sys


def main() -> int:
    """Run the command line and return its exit status."""
    # Before pydantic is imported: it would look into every installed distribution for plugins, for 40 ms and more.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from agent.cli.main import main as command_line  # noqa: PLC0415  importing the package must cost nothing
    except KeyboardInterrupt:
        return 130
    return command_line()


if __name__ == "__main__":
    sys.exit(main())
