"""Colour for people at a terminal, plain text for everything else."""

import os
from typing import TextIO

from agent.config.errors import Paint

_CODES = {"error": "31;1", "warning": "33;1", "place": "1", "remedy": "36", "good": "32", "faint": "2"}


def is_colourful(stream: TextIO) -> bool:
    """Whether `stream` shows colours: a terminal, unless NO_COLOR (no-color.org) or a dumb terminal says otherwise."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def paint_for(stream: TextIO) -> Paint:
    """A function that colours text by its role, or leaves it alone where `stream` isn't a terminal."""
    if not is_colourful(stream):
        return lambda text, role: text
    return lambda text, role: f"\x1b[{_CODES[role]}m{text}\x1b[0m" if role in _CODES else text
