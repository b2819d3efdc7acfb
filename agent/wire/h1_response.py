"""Bytes to response heads: as strict as for requests, since applications and upstreams can be hostile too."""

from agent.wire.errors import MalformedError
from agent.wire.fields import RESPONSE_RULES, check_block, connection_options, without
from agent.wire.h1_request import END
from agent.wire.head import ResponseHead

UNTIL_CLOSE = -2
"""`ResponseHead.content_length` of a body that ends with the connection."""

_MOST_FIELDS = 256
_KNOWN_STATUS_LINES = 256
_KNOWN_HEADS = 256
_KNOWN_HEAD_BYTES = 1024
_HEADS: dict[bytes, ResponseHead] = {}
"""Heads by their bytes: within one second an application sends few different ones, where it sends no identifiers.

Never changed once they are here.
"""
StatusLine = tuple[int, int, bytes]
_STATUS_LINES: dict[bytes, StatusLine] = {}
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"upgrade"})
_BODILESS = frozenset({204, 304})
_SINGLE = frozenset({b"content-length", b"transfer-encoding", b"location", b"content-type"})


class ResponseParser:
    """Parses one response head after another; keeps nothing between them."""

    __slots__ = ("_max_bytes",)

    def __init__(self, max_bytes: int = 65536) -> None:
        self._max_bytes = max_bytes

    def parse(self, data: bytes, *, to_head: bool) -> tuple[ResponseHead, int] | None:
        """Read one head from the front of `data`: (head, its length), or None where it isn't complete yet.

        `to_head`: the request was HEAD, so no body follows. Raises MalformedError.
        """
        end = data.find(END)
        if end < 0 or end > self._max_bytes:
            if len(data) > self._max_bytes:
                raise MalformedError(f"a response head of more than {self._max_bytes} bytes", "upstream_garbage")
            if not data.startswith(b"HTTP/1."[: len(data)]):
                raise MalformedError("the answer doesn't begin with HTTP/1.", "upstream_garbage")
            return None
        block = data[: end + 4]
        known = _HEADS.get(block)
        if known is not None and not to_head:
            return known, end + 4
        lines = block.split(b"\r\n")
        try:
            check_block(block, len(lines) - 1)
            head = _read_head(lines)
        except MalformedError as error:
            error.code = "upstream_garbage"
            raise
        if to_head or head.status in _BODILESS:
            head.chunked = False
        elif len(block) <= _KNOWN_HEAD_BYTES and RESPONSE_RULES.are_known(lines[1:-2]):
            if len(_HEADS) >= _KNOWN_HEADS:
                _HEADS.clear()
            _HEADS[block] = head
        return head, end + 4


def _read_head(lines: list[bytes]) -> ResponseHead:
    head = ResponseHead()
    head.minor, head.status, head.reason = _STATUS_LINES.get(lines[0]) or _status_line(lines[0])
    if len(lines) - 3 > _MOST_FIELDS:
        raise MalformedError(f"more than {_MOST_FIELDS} header fields")
    fields: dict[bytes, bytes] = {}
    kept: list[bytes] = []
    known = RESPONSE_RULES.lines
    for line in lines[1:-2]:
        lower, value, forwarded = known.get(line) or RESPONSE_RULES.line(line)
        fields[lower] = value
        if forwarded:
            kept.append(forwarded)
    head.fields = fields if len(fields) == len(lines) - 3 else _joined(lines[1:-2])
    head.lines = kept
    _read_framing(head, head.fields)
    head.joined = b"\r\n".join(head.lines) + b"\r\n" if head.lines else b""
    return head


def _status_line(line: bytes) -> StatusLine:
    """Minor version, status and reason (RFC 9112, section 4), remembered: applications use few of them."""
    version, code, sep = line[:9], line[9:12], line[12:13]
    if version not in (b"HTTP/1.1 ", b"HTTP/1.0 "):
        raise MalformedError("no HTTP/1.1 status line")
    if not code.isdigit() or sep not in (b" ", b"") or not 100 <= int(code) <= 599:
        raise MalformedError(f"the status line {line[:40]!r}")
    parsed = (1 if version == b"HTTP/1.1 " else 0, int(code), line[13:])
    if len(_STATUS_LINES) < _KNOWN_STATUS_LINES and len(line) <= 64:
        _STATUS_LINES[line] = parsed
    return parsed


def _joined(lines: list[bytes]) -> dict[bytes, bytes]:
    """The fields of lines of which some have the same name; `set-cookie` can't be joined, so its last one counts."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        _, value, (lower, _) = RESPONSE_RULES.read(line)
        value = value.strip()
        before = fields.get(lower)
        if before is None or lower == b"set-cookie":
            fields[lower] = value
        elif lower in _SINGLE:
            raise MalformedError(f"{lower.decode()} came twice")
        else:
            fields[lower] = before + b", " + value
    return fields


def _read_framing(head: ResponseHead, fields: dict[bytes, bytes]) -> None:
    status = head.status
    head.chunked, head.upgrade = False, b""
    head.keep_alive = head.minor == 1
    if (connection := fields.get(b"connection")) is not None and connection != b"keep-alive":
        _read_connection(head, connection)
    elif connection is not None:
        head.keep_alive = True
    length = fields.get(b"content-length")
    if status in _BODILESS or status < 200:
        _read_no_body(head)
    elif b"transfer-encoding" in fields:
        if length is not None or fields[b"transfer-encoding"].lower() != b"chunked" or head.minor == 0:
            raise MalformedError("a framing with two meanings", "upstream_garbage")
        head.chunked, head.content_length = True, -1
    elif length is not None:
        if not length.isdigit() or len(length) > 18:
            raise MalformedError("Content-Length is no decimal number", "upstream_garbage")
        head.content_length = int(length)
    else:
        head.content_length, head.keep_alive = UNTIL_CLOSE, False


def _read_no_body(head: ResponseHead) -> None:
    fields = head.fields
    if head.status == 101:
        head.upgrade = fields.get(b"upgrade", b"").lower()
    elif head.status != 304 and (b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"):
        head.keep_alive = False  # it announces a body that may not be there: what follows would be anyone's answer
    head.content_length = 0


def _read_connection(head: ResponseHead, connection: bytes) -> None:
    options = connection_options(connection)
    head.keep_alive = b"close" not in options and (head.minor == 1 or b"keep-alive" in options)
    head.lines = without(head.lines, head.fields, options - _FRAMING)
