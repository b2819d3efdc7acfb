"""A request's header fields and what they mean together: everything of a head but its request line.

The meaning depends on nothing but the bytes and the HTTP version. So a client that sends the same fields again on its
connection, as most do, has them read once.
"""

from agent.wire.errors import MalformedError
from agent.wire.fields import OURS, UNNAMEABLE, FieldRules, connection_options, join_repeated, without
from agent.wire.path import BadTargetError, split_authority

_HTTP = (b"h2", b"http")  # a tunnel in which requests would pass unjudged


class FieldBlock:
    """The fields of one head. Never changed after `read_block`: the heads made from it share its dict and list."""

    __slots__ = (
        "bytes", "chunked", "content_length", "expect_continue", "fields", "generation", "host", "joined", "keep_alive",
        "lines", "minor", "upgrade",
    )  # fmt: skip

    def __init__(self, minor: int, fields: dict[bytes, bytes], lines: list[bytes]) -> None:
        self.bytes = b""
        """Everything after the request line, so that the next head can be compared."""
        self.generation = 0
        """Of the rules that it was read under."""
        self.minor = minor
        self.fields = fields
        self.lines = lines
        self.joined = b""
        """`lines` as they go on, each with its CRLF."""
        self.host = self.upgrade = b""
        self.chunked = self.expect_continue = False
        self.content_length = 0
        self.keep_alive = minor == 1


EMPTY = FieldBlock(-1, {}, [])
"""Equal to no head's block."""


def read_block(lines: list[bytes], minor: int, rules: FieldRules) -> FieldBlock:
    """Read field lines that have passed `check_block`. Raises MalformedError."""
    fields: dict[bytes, bytes] = {}
    kept: list[bytes] = []
    known = rules.lines
    for line in lines:
        lower, value, forwarded = known.get(line) or rules.line(line)
        fields[lower] = value
        if forwarded:
            kept.append(forwarded)
    if len(fields) != len(lines):
        fields = _joined(lines, rules)
    block = FieldBlock(minor, fields, kept)
    block.generation = rules.generation
    block.host = _host(fields, minor)
    if b"content-length" in fields or b"transfer-encoding" in fields:
        _read_framing(block)
    if b"connection" in fields:
        _read_connection(block)
    if b"expect" in fields:
        _read_expect(block)
    if block.lines:
        block.joined = b"\r\n".join(block.lines) + b"\r\n"
    return block


def _host(fields: dict[bytes, bytes], minor: int) -> bytes:
    host = fields.get(b"host")
    if not host:
        if host is None and minor == 1:
            raise MalformedError("no Host", "bad_host")
        return b""
    try:
        return split_authority(host)[0]
    except BadTargetError as error:
        raise MalformedError(f"Host: {error}", "bad_host") from None


def _joined(lines: list[bytes], rules: FieldRules) -> dict[bytes, bytes]:
    """The fields of lines of which some have the same name."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        _, value, (lower, _) = rules.read(line)
        value = value.strip()
        fields[lower] = join_repeated(lower, fields[lower], value) if lower in fields else value
    return fields


def _read_expect(block: FieldBlock) -> None:
    if block.fields[b"expect"].lower() != b"100-continue":
        raise MalformedError("Expect asks for something other than 100-continue")
    block.expect_continue = block.minor == 1


def _read_framing(block: FieldBlock) -> None:
    fields = block.fields
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise MalformedError("both Content-Length and Transfer-Encoding")
        if coding.lower() != b"chunked" or block.minor == 0:
            raise MalformedError("a transfer coding other than chunked alone, or one in HTTP/1.0")
        block.chunked, block.content_length = True, -1
    elif length is not None:
        if not length.isdigit() or len(length) > 18:
            raise MalformedError("Content-Length is no decimal number")
        block.content_length = int(length)


def _read_connection(block: FieldBlock) -> None:
    fields = block.fields
    options = connection_options(fields[b"connection"])
    if b"close" in options:
        block.keep_alive = False
    elif b"keep-alive" in options:
        block.keep_alive = True
    if b"upgrade" in options:
        _read_upgrade(block)
    for option in options:
        if option in UNNAMEABLE or option.startswith(OURS):
            raise MalformedError(f"Connection names {option.decode('latin-1')}, which is not hop-by-hop")
    block.lines = without(block.lines, fields, options - {b"upgrade"})


def _read_upgrade(block: FieldBlock) -> None:
    """Honour an upgrade only where it has one meaning: HTTP/1.1, no body, one protocol, and never h2c."""
    protocol = block.fields.get(b"upgrade", b"").lower()
    if block.minor == 1 and not block.content_length and b"," not in protocol and not protocol.startswith(_HTTP):
        block.upgrade = protocol
