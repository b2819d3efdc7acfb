"""`python -m agent` and the `outrigger` command."""

import sys


def main() -> int:
    """Run the command line and return its exit status."""
    return 2


if __name__ == "__main__":
    sys.exit(main())
