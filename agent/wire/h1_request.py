"""Bytes to request heads: llhttp tokenises strictly, this module gives the head its one meaning or refuses it.

The parser sees heads only. Bodies are read by `agent.wire.h1_body`, which knows exactly where they end: so pipelined
requests stay bytes until their turn, and nothing that follows a message is ever looked at early.

llhttp (strict, httptools 0.9) refuses: both framing headers, repeated, signed or listed lengths, bare LF or CR, folded
lines, NUL and control characters, space before a colon, empty names, unknown or lower-case methods. It lets pass, so it
is refused here: any transfer coding but `chunked` alone, `chunked` in HTTP/1.0, no Host or two, other versions, more
than one space in the request line, an Expect that isn't 100-continue.
"""

import re
from typing import NamedTuple

import httptools

from agent.wire.errors import MalformedError
from agent.wire.fields import (
    OURS,
    REQUEST_RULES,
    UNNAMEABLE,
    connection_options,
    join_repeated,
    split_field_lines,
)
from agent.wire.head import RequestHead
from agent.wire.path import AmbiguousPathError, BadTargetError, normalise, split_authority, split_target

END = b"\r\n\r\n"
_MINOR = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_NOT_FORWARDED = frozenset({b"CONNECT", b"TRACE"})
_KNOWN_HOSTS = 256
_BAD_START = re.compile(rb"[^A-Z]|[A-Z]{1,20}[^A-Z\- ]|[A-Z-]{21}")


class HeadLimits(NamedTuple):
    """What a peer may send before a head is refused."""

    bytes: int = 32768
    fields: int = 100


def early_refusal(data: bytes) -> str | None:
    """Say why an unfinished head can never become a good one, or None: so that no garbage waits for its time-out."""
    if _BAD_START.match(data):
        return "TLS on a plain port" if data[:1] == b"\x16" else "the request line doesn't begin with a method"
    if data.count(b"\n") != data.count(b"\r\n"):
        return "a line that ends in LF alone"
    return None


class RequestParser:
    """Parses one request head after another on one connection."""

    __slots__ = ("_feed", "_fields", "_hosts", "_limits", "_verbatim", "on_header")

    def __init__(self, limits: HeadLimits, *, verbatim_paths: bool = False) -> None:
        """`verbatim_paths`: leave the path as it came, for the outbound side where no rule is matched on it."""
        self._limits = limits
        self._verbatim = verbatim_paths
        self._hosts: dict[bytes, bytes] = {}
        self._fields: dict[bytes, bytes] = {}
        # The dict's own method is llhttp's callback: no Python frame per field (measured: 0.15 µs less each).
        # Repeated names show as a wrong line count afterwards and take the slow way.
        self.on_header = self._fields.__setitem__
        self._renew()

    def _renew(self) -> None:
        self._fields.clear()
        self._feed = httptools.HttpRequestParser(self).feed_data

    def parse(self, data: bytes) -> tuple[RequestHead, int] | None:
        """Read one head from the front of `data`: (head, its length), or None where it isn't complete yet.

        Raises MalformedError. The parser may be used on after a head, not after an error.
        """
        if data.endswith(END) and len(data) <= self._limits.bytes:
            try:
                self._feed(data)
            except (
                httptools.HttpParserError,
                httptools.HttpParserUpgrade,
            ):  # perhaps in what follows the first head: look closer
                self._renew()
            else:
                # Equal counts prove: one head, no body, no second request, no repeated field.
                if data.count(b"\n") == len(self._fields) + 2:
                    return self._head(data, data.find(b"\r\n"), self._fields), len(data)
                self._renew()
        return self._parse_front(data)

    def _parse_front(self, data: bytes) -> tuple[RequestHead, int] | None:
        """The slow way: find where the head ends, and show llhttp nothing of what follows."""
        end = data.find(END)
        if end < 0 or end + 4 > self._limits.bytes:
            if len(data) > self._limits.bytes:
                raise MalformedError(f"a head of more than {self._limits.bytes} bytes", self._oversize(data))
            if (why := early_refusal(data)) is not None:
                raise MalformedError(why)
            return None
        self._tokenise(data[: end + 4])
        eol = data.find(b"\r\n")
        fields = self._fields
        lines = None
        if data.count(b"\n", 0, end + 4) != len(fields) + 2:
            lines = split_field_lines(data[eol + 2 : end])
        head = self._head(data, eol, fields, lines)
        if head.content_length or head.upgrade:
            self._renew()  # llhttp waits for the body that it won't see
        return head, end + 4

    def _oversize(self, data: bytes) -> str:
        return "head_too_large" if b"\r\n" in data[: self._limits.bytes] else "target_too_long"

    def _tokenise(self, head: bytes) -> None:
        try:
            self._feed(head)
        except httptools.HttpParserUpgrade:
            fields = dict(self._fields)
            self._renew()
            self._fields.update(fields)
        except httptools.HttpParserError as error:
            raise MalformedError(str(error)) from None

    def _head(
        self, data: bytes, eol: int, raw: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]] | None = None
    ) -> RequestHead:
        head = RequestHead()
        try:
            head.method, target, version = data[:eol].split(b" ")
            head.minor = _MINOR[version]
        except (ValueError, KeyError):
            raise MalformedError("the request line isn't `METHOD SP TARGET SP HTTP/1.1`") from None
        head.target = target
        fields: dict[bytes, bytes] = {}
        lines: list[bytes] = []
        keep = lines.append
        known = REQUEST_RULES.known
        for name, value in pairs or raw.items():
            lower, forwarded = known.get(name) or REQUEST_RULES.learn(name)
            value = value.strip()  # noqa: PLW2901  llhttp leaves trailing white space
            if lower in fields:
                fields[lower] = join_repeated(lower, fields[lower], value)
            else:
                fields[lower] = value
            if forwarded:
                keep(name + b": " + value)
        if len(pairs or raw) > self._limits.fields:
            raise MalformedError(f"more than {self._limits.fields} header fields", "head_too_large")
        raw.clear()
        head.fields = fields
        head.lines = lines
        self._meaning(head, target)
        return head

    def _meaning(self, head: RequestHead, target: bytes) -> None:
        fields = head.fields
        head.identity = head.trace = None
        head.request_extra = head.response_extra = head.upgrade = b""
        head.shadow = head.route = ""
        head.chunked = head.expect_continue = False
        head.content_length = 0
        if head.method in _NOT_FORWARDED:
            raise MalformedError(f"{head.method.decode()} is never forwarded", "method_not_supported")
        self._read_target(head, target)
        head.keep_alive = head.minor == 1
        if b"content-length" in fields or b"transfer-encoding" in fields:
            _read_framing(head)
        if b"connection" in fields:
            _read_connection(head)
        if b"expect" in fields:
            if fields[b"expect"].lower() != b"100-continue":
                raise MalformedError("Expect asks for something other than 100-continue")
            head.expect_continue = head.minor == 1

    def _read_target(self, head: RequestHead, target: bytes) -> None:
        host = head.fields.get(b"host")
        if host is None:
            if head.minor == 1:
                raise MalformedError("no Host", "bad_host")
            host = b""
        head.host = self._hosts.get(host) or self._learn_host(host)
        try:
            if target[:1] == b"/":
                path, _, head.query = target.partition(b"?")
                if b"#" in head.query:
                    raise MalformedError("a fragment in the target", "bad_path")
            else:
                _, authority, path, head.query = split_target(target, head.method)
                if authority and authority.lower() != host.lower():
                    raise MalformedError("the target's authority differs from Host", "bad_host")
            head.path = path if self._verbatim else normalise(path)
        except (AmbiguousPathError, BadTargetError) as error:
            raise MalformedError(str(error), "bad_path") from None

    def _learn_host(self, host: bytes) -> bytes:
        if not host:
            return b""
        try:
            name = split_authority(host)[0]
        except BadTargetError as error:
            raise MalformedError(f"Host: {error}", "bad_host") from None
        if len(self._hosts) < _KNOWN_HOSTS:
            self._hosts[host] = name
        return name


def _read_framing(head: RequestHead) -> None:
    fields = head.fields
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise MalformedError("both Content-Length and Transfer-Encoding")
        if coding.lower() != b"chunked" or head.minor == 0:
            raise MalformedError("a transfer coding other than chunked alone, or one in HTTP/1.0")
        head.chunked, head.content_length = True, -1
    elif length is not None:
        if not length.isdigit() or len(length) > 18:
            raise MalformedError("Content-Length is no decimal number")
        head.content_length = int(length)


def _read_connection(head: RequestHead) -> None:
    value = head.fields[b"connection"]
    options = connection_options(value)
    for option in options:
        if option == b"close":
            head.keep_alive = False
        elif option == b"keep-alive":
            head.keep_alive = b"close" not in options
        elif option == b"upgrade":
            _read_upgrade(head)
        elif option in UNNAMEABLE or option.startswith(OURS):
            raise MalformedError(f"Connection names {option.decode('latin-1')}, which is not hop-by-hop")
        elif option in head.fields:
            del head.fields[option]
            head.lines = [line for line in head.lines if line[: line.index(b":")].lower() != option]


def _read_upgrade(head: RequestHead) -> None:
    """Honour an upgrade only where it has one meaning: HTTP/1.1, no body, one protocol, and never h2c."""
    protocol = head.fields.get(b"upgrade", b"").lower()
    if head.minor == 1 and not head.content_length and b"," not in protocol and not protocol.startswith(b"h2"):
        head.upgrade = protocol
