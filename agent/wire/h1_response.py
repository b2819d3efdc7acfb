"""Bytes to response heads: as strict as for requests, since applications and upstreams can be hostile too."""

import httptools

from agent.wire.errors import MalformedError
from agent.wire.fields import RESPONSE_RULES, connection_options, split_field_lines
from agent.wire.h1_request import END
from agent.wire.head import ResponseHead

UNTIL_CLOSE = -2
"""`ResponseHead.content_length` of a body that ends with the connection."""

_BODILESS = frozenset({204, 304})
_SINGLE = frozenset({b"content-length", b"transfer-encoding", b"location", b"content-type"})


class ResponseParser:
    """Parses one response head after another on one connection."""

    __slots__ = ("_complete", "_feed", "_fields", "_max_bytes", "on_header", "on_message_complete")

    def __init__(self, max_bytes: int = 65536) -> None:
        self._max_bytes = max_bytes
        self._fields: dict[bytes, bytes] = {}
        self.on_header = self._fields.__setitem__
        self._feed = httptools.HttpResponseParser(self).feed_data

    def _renew(self) -> None:
        self._fields.clear()
        self._feed = httptools.HttpResponseParser(self).feed_data

    def parse(self, data: bytes, *, to_head: bool) -> tuple[ResponseHead, int] | None:
        """Read one head from the front of `data`: (head, its length), or None where it isn't complete yet.

        `to_head`: the request was HEAD, so no body follows. Raises MalformedError; the parser is not to be used after.
        """
        end = data.find(END)
        if end < 0 or end > self._max_bytes:
            if len(data) > self._max_bytes:
                raise MalformedError(f"a response head of more than {self._max_bytes} bytes", "upstream_garbage")
            if not data.startswith(b"HTTP/1."[: len(data)]):
                raise MalformedError("the answer doesn't begin with HTTP/1.", "upstream_garbage")
            return None
        try:
            self._feed(data[: end + 4])
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise MalformedError(str(error), "upstream_garbage") from None
        head = self._head(data, end)
        if head.content_length or to_head or head.status < 200:
            self._renew()  # llhttp waits for a body that it won't see, or won't come
        if to_head or head.status in _BODILESS:
            head.chunked = False
        return head, end + 4

    def _head(self, data: bytes, end: int) -> ResponseHead:
        head = ResponseHead()
        eol = data.find(b"\r\n")
        version, _, rest = data[:eol].partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or not rest[:3].isdigit() or rest[3:4] not in (b" ", b""):
            raise MalformedError("no HTTP/1.1 status line", "upstream_garbage")
        head.minor = 1 if version == b"HTTP/1.1" else 0
        head.status, head.reason = int(rest[:3]), rest[4:]
        if not 100 <= head.status <= 599:
            raise MalformedError(f"status {head.status}", "upstream_garbage")
        raw = self._fields
        pairs = None
        if data.count(b"\n", 0, end + 4) != len(raw) + 2:
            pairs = split_field_lines(data[eol + 2 : end])
        _read_fields(head, raw, pairs)
        raw.clear()
        _read_framing(head)
        return head


def _read_fields(head: ResponseHead, raw: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]] | None) -> None:
    fields: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    keep = lines.append
    known = RESPONSE_RULES.known
    for name, value in pairs or raw.items():
        lower, forwarded = known.get(name) or RESPONSE_RULES.learn(name)
        if lower in fields and lower != b"set-cookie":
            if lower in _SINGLE and fields[lower] != value.strip():
                raise MalformedError(f"{lower.decode()} came twice and differs", "upstream_garbage")
            fields[lower] = fields[lower] + b", " + value.strip() if lower not in _SINGLE else fields[lower]
        else:
            fields[lower] = value.strip()
        if forwarded:
            keep(name + b": " + value)
    head.fields = fields
    head.lines = lines


def _read_framing(head: ResponseHead) -> None:
    fields = head.fields
    head.chunked, head.upgrade = False, b""
    head.keep_alive = head.minor == 1
    if (connection := fields.get(b"connection")) is not None:
        _read_connection(head, connection)
    if head.status in _BODILESS or head.status < 200:
        if head.status == 101:
            head.upgrade = fields.get(b"upgrade", b"").lower()
        head.content_length = 0
        return
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked" or head.minor == 0:
            raise MalformedError("a framing with two meanings", "upstream_garbage")
        head.chunked, head.content_length = True, -1
    elif length is not None:
        if not length.isdigit() or len(length) > 18:
            raise MalformedError("Content-Length is no decimal number", "upstream_garbage")
        head.content_length = int(length)
    else:
        head.content_length, head.keep_alive = UNTIL_CLOSE, False


def _read_connection(head: ResponseHead, connection: bytes) -> None:
    options = connection_options(connection)
    head.keep_alive = b"close" not in options and (head.minor == 1 or b"keep-alive" in options)
    for option in options:
        if option in head.fields and option not in (b"content-length", b"transfer-encoding", b"upgrade"):
            del head.fields[option]
            head.lines = [line for line in head.lines if line[: line.index(b":")].lower() != option]
