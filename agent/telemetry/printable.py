"""Text that others chose, made safe for one line of JSON on someone's terminal."""

import re
from time import gmtime, strftime

TEXT_LIMIT = 4096
"""Characters of one value: container runtimes cut lines at 16 KiB."""

_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What JSON lets pass unescaped and terminals or line readers act on, and what has no UTF-8 form."""


def printable(value: str) -> str:
    """The value without what could act on a reader of the line, cut at TEXT_LIMIT. JSON escapes the rest."""
    if len(value) > TEXT_LIMIT:
        value = value[:TEXT_LIMIT] + "…"
    if value.isascii() and "\x7f" not in value:
        return value
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", value)


def rfc3339(millisecond: int) -> str:
    """Milliseconds since the Unix epoch as ``2023-11-14T22:13:20.125Z``."""
    second, rest = divmod(millisecond, 1000)
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(second))}.{rest:03d}Z"
