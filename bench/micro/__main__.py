"""`python -m bench.micro [WORD]`: time every function, or those whose name holds WORD."""

import importlib
import pkgutil
import sys
from collections.abc import Iterator

from bench import micro
from bench.micro.timing import Micro, nanoseconds


def collect() -> Iterator[Micro]:
    """All that the modules named `time_*` of this folder offer."""
    for found in pkgutil.iter_modules(micro.__path__):
        if found.name.startswith("time_"):
            module = importlib.import_module(f"{micro.__name__}.{found.name}")
            yield from module.micros()


def main() -> None:
    """Print one line a function."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    for one in collect():
        if word in one.name:
            print(f"{one.name:<44} {nanoseconds(one):10.0f} ns", flush=True)


if __name__ == "__main__":
    main()
