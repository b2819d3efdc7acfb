"""What a route changes in requests and responses on their way, compiled once per configuration."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from agent.core.settings import Settings
from agent.wire.fields import HOP_BY_HOP, OURS, REWRITTEN_IN_REQUESTS, lines_without
from agent.wire.head import RequestHead
from agent.wire.path import BadTargetError, fold, normal_path, split_authority

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FORWARDING = {name.decode() for name in REWRITTEN_IN_REQUESTS} - {"host", "content-length"}
_FRAMING = {name.decode() for name in HOP_BY_HOP} | {"content-length", "expect"}


def _why_not(name: str) -> str:
    """Why a rule may not touch this field; ``""`` if it may."""
    lower = name.lower()
    if not _TOKEN.fullmatch(name):
        return f"{name!r} is no header name"
    if lower in _FRAMING:
        return f"{name!r} frames the message or belongs to one connection, so the sidecar writes it itself"
    if lower.startswith(OURS.decode()):
        return f"{name!r} is the sidecar's own"
    return ""


def _why_not_in_request(name: str) -> str:
    if name.lower() == "host":
        return "set the host with `host`, not as a header"
    if name.lower() in _FORWARDING:
        return f"{name!r} is written by the sidecar for each request and can't be set or removed here"
    return _why_not(name)


def _check_value(name: str, value: str) -> None:
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of {name!r} contains a line end, NUL or another control character")
    if value != value.strip():
        raise ValueError(f"the value of {name!r} has white space around it, which no receiver keeps")


def _request_fields(fields: dict[str, str]) -> dict[str, str]:
    for name, value in fields.items():
        if why := _why_not_in_request(name):
            raise ValueError(why)
        _check_value(name, value)
    return fields


def _response_fields(fields: dict[str, str]) -> dict[str, str]:
    for name, value in fields.items():
        if why := _why_not(name):
            raise ValueError(why)
        _check_value(name, value)
    return fields


def _request_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if why := _why_not_in_request(name):
            raise ValueError(why)
    return names


def _response_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if why := _why_not(name):
            raise ValueError(why)
    return names


def _prefix(text: str) -> str:
    if not text:
        return text
    if not text.startswith("/") or text.endswith("/"):
        raise ValueError(f"{text!r}: a prefix begins with '/' and doesn't end with it, as in /search")
    normal_path(text)
    return text


def _path(text: str) -> str:
    if not text:
        return text
    if not text.startswith("/"):
        raise ValueError(f"{text!r}: a path begins with '/', as in /v2/orders/{{id}}")
    parts = text[1:].split("/")
    if parts[-1] == "**":
        parts.pop()
    for part in parts:
        if ("{" in part or "}" in part or "*" in part) and not _NAME.fullmatch(part):
            raise ValueError(f"{text!r}: {part!r} must be a whole segment: {{name}} or plain text, and ** at the end")
    normal_path("/" + "/".join("x" if "{" in part else part for part in parts))
    return text


def _host(text: str) -> str:
    if text:
        try:
            split_authority(text.encode())
        except BadTargetError as error:
            raise ValueError(str(error)) from None
    return text


class RewriteSettings(Settings):
    """Changes on the way to where the route leads, and back. Policies judge the request as it was."""

    strip_prefix: Annotated[str, AfterValidator(_prefix)] = ""
    """Removed from the start of the path, whole segments only; a path that doesn't begin with it stays as it is."""
    add_prefix: Annotated[str, AfterValidator(_prefix)] = ""
    """Put before the path, after `strip_prefix`."""
    path: Annotated[str, AfterValidator(_path)] = ""
    """A new path instead: `{name}` and a final `**` stand for what they matched in the route's `match.path`."""
    host: Annotated[str, AfterValidator(_host)] = ""
    """`Host` that the target gets. Empty: the client's for the application, the target's own for upstreams."""
    set_headers: Annotated[dict[str, str], AfterValidator(_request_fields)] = Field(default_factory=dict)
    """Request headers that replace what was sent."""
    add_headers: Annotated[dict[str, str], AfterValidator(_request_fields)] = Field(default_factory=dict)
    """Request headers sent in addition to what was sent."""
    remove_headers: Annotated[tuple[str, ...], AfterValidator(_request_names)] = ()
    """Request headers that don't go on."""
    response_set_headers: Annotated[dict[str, str], AfterValidator(_response_fields)] = Field(default_factory=dict)
    """Response headers that replace what was answered."""
    response_remove_headers: Annotated[tuple[str, ...], AfterValidator(_response_names)] = ()
    """Response headers that the client doesn't get."""

    @model_validator(mode="after")
    def _one_way(self) -> "RewriteSettings":
        if self.path and (self.strip_prefix or self.add_prefix):
            raise ValueError("`path` gives the whole new path: use it, or strip_prefix and add_prefix, not both")
        return self


class Rewrite:
    """The compiled rules of one route. A normal path stays normal: only whole segments are moved."""

    __slots__ = ("_added", "_dropped", "_parts", "_prefix", "_response_added", "_response_dropped", "_strip", "host")

    def __init__(self, settings: RewriteSettings, match_path: str = "/**") -> None:
        """`match_path` is the route's `match.path`. Raises ValueError where `path` uses what that doesn't have."""
        self.host = settings.host.encode()
        """`Host` to send, ``b""`` to leave it."""
        self._strip = tuple(normal_path(settings.strip_prefix)[1:].split(b"/")) if settings.strip_prefix else ()
        self._strip = tuple(fold(segment) for segment in self._strip)
        self._prefix = normal_path(settings.add_prefix) if settings.add_prefix else b""
        self._parts = _compile(settings.path, match_path)
        self._added = _lines(settings.set_headers) + _lines(settings.add_headers)
        self._dropped = _names([*settings.set_headers, *settings.remove_headers])
        self._response_added = _lines(settings.response_set_headers)
        self._response_dropped = _names([*settings.response_set_headers, *settings.response_remove_headers])

    def apply(self, head: RequestHead) -> None:
        """Change `head.path` and `head.lines`. `head.fields` stays as it was sent: keys and the log read it."""
        head.path = self.apply_path(head.path)
        if self._dropped and not self._dropped.isdisjoint(head.fields):
            head.lines = lines_without(head.lines, self._dropped)
        if self._added:
            head.lines = head.lines + self._added

    def apply_path(self, path: bytes) -> bytes:
        """The path to send for the normal `path` that the route matched."""
        if path == b"*":
            return path
        if self._parts:
            return self._fill(path[1:].split(b"/"))
        strip = self._strip
        if strip:
            segments = path[1:].split(b"/")
            count = len(strip)
            if tuple(segments[:count]) == strip or tuple(map(fold, segments[:count])) == strip:
                path = b"/" + b"/".join(segments[count:])
        return self._prefix + path if self._prefix else path

    def response_lines(self, lines: list[bytes]) -> list[bytes]:
        """The response's field lines as the client gets them."""
        if self._response_dropped:
            lines = lines_without(lines, self._response_dropped)
        return lines + self._response_added

    def _fill(self, segments: list[bytes]) -> bytes:
        out: list[bytes] = []
        for part in self._parts:
            if isinstance(part, bytes):
                out.append(part)
            elif part >= 0:
                out.append(segments[part])
            else:
                out += segments[-part - 1 :]
        return b"/" + b"/".join(out)


def _compile(path: str, match_path: str) -> tuple[bytes | int, ...]:
    """Literals, places of segments, and for ``**`` the place where the rest begins, as -1 - place."""
    if not path:
        return ()
    matched = match_path[1:].split("/")
    parts: list[bytes | int] = []
    for part in path[1:].split("/"):
        if part == "**" or _NAME.fullmatch(part):
            if part not in matched:
                raise ValueError(f"{path!r}: {part} isn't in the route's path {match_path!r}")
            place = matched.index(part)
            parts.append(-1 - place if part == "**" else place)
        else:
            parts.append(normal_path("/" + part)[1:])
    return tuple(parts)


def _lines(fields: dict[str, str]) -> list[bytes]:
    return [f"{name.lower()}: {value}".encode() for name, value in fields.items()]


def _names(names: list[str]) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in names)
