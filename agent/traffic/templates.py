"""Path templates as users write them: exact, `{name}` or `*` for one segment, `**` at the end for any rest."""

import re
from typing import NamedTuple

from agent.wire.path import fold, normal_path

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Parameter(NamedTuple):
    """A place for exactly one non-empty segment. `name` is ``""`` for ``*``."""

    name: str


class PathTemplate:
    """A compiled template. `segments` are folded literals or parameters; `rest` tells whether ``**`` follows them."""

    __slots__ = ("rest", "segments", "text")

    def __init__(self, text: str) -> None:
        """Raises ValueError with a sentence that says what would be right."""
        self.text = text
        if not text.startswith("/"):
            raise ValueError(f"{text!r}: a path begins with '/', as in /orders/{{id}} or /orders/**")
        if ";" in text:
            raise ValueError(f"{text!r}: leave ';' out, servers disagree on what it means, so it can't be matched")
        parts = text[1:].split("/")
        self.rest = parts[-1] == "**"
        if self.rest:
            parts.pop()
            if parts[-1:] == [""]:
                raise ValueError(f"{text!r} can never match, since empty segments are removed first")
        normal_path("/" + "/".join("x" if "{" in part or "*" in part else part for part in parts))
        self.segments: tuple[bytes | Parameter, ...] = tuple(self._segment(part) for part in parts)
        names = [each.name for each in self.segments if isinstance(each, Parameter) and each.name]
        if len(names) != len(set(names)):
            raise ValueError(f"{text!r}: a name in braces may appear only once")

    def _segment(self, part: str) -> "bytes | Parameter":
        if part == "*":
            return Parameter("")
        if match := _PARAMETER.fullmatch(part):
            return Parameter(match[1])
        if "**" in part:
            raise ValueError(f"{self.text!r}: '**' stands alone and only at the end, as in /orders/**")
        if "*" in part or "{" in part or "}" in part:
            raise ValueError(f"{self.text!r}: {part!r} must be a whole segment: {{name}}, * or plain text")
        return fold(normal_path("/" + part)[1:])

    def matches(self, folded: list[bytes]) -> bool:
        """Whether a path, folded and split at its slashes (without the first), fits."""
        segments = self.segments
        if len(folded) != len(segments) and not (self.rest and len(folded) > len(segments)):
            return False
        return all(
            part == segment if isinstance(segment, bytes) else part != b""
            for segment, part in zip(segments, folded, strict=False)
        )
