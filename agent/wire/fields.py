"""What happens to each header field on its way: one lookup per field, by its name as it was spelled.

Hop-by-hop fields (RFC 9110, section 7.6.1) end here; what describes framing is written anew; what only the sidecar may
say (identity, forwarding, trace context) is taken from nobody else.
"""

import re
from collections.abc import Collection

from agent.wire.errors import MalformedError

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization",
        b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings",
    }
)  # fmt: skip
REWRITTEN_IN_REQUESTS = frozenset(
    {
        b"host", b"content-length", b"forwarded", b"traceparent", b"tracestate", b"x-forwarded-for",
        b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-server", b"x-forwarded-prefix",
        b"x-real-ip",
        b"x-original-url",
        b"x-rewrite-url",
    }
)  # fmt: skip
REWRITTEN_IN_RESPONSES = frozenset({b"content-length"})
OURS = b"x-outrigger-"
"""Prefix of the fields that only the sidecar sets: none is forwarded as it came, though a client's deadline is read."""

UNNAMEABLE = (
    REWRITTEN_IN_REQUESTS
    | frozenset({b"authorization", b"cookie", b"transfer-encoding", b"expect", b"origin", b"idempotency-key"})
) - {b"traceparent", b"tracestate"}
"""Fields that `Connection` may not name: without them the application would read another request than we judged."""

SINGLETONS = frozenset(
    {b"host", b"authorization", b"content-length", b"content-type", b"expect", b"origin", b"transfer-encoding"}
    | {b"idempotency-key", b"upgrade", b"proxy-authorization"}
)
"""Fields that are refused when they come twice: two readers could pick different ones."""

_KNOWN_NAMES = 1024  # spellings remembered; beyond that (a flood of made-up names) each is looked at anew
_KNOWN_NAME_BYTES = 64
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ALIASES = bytes.maketrans(b"!#$%&'*+.^_`|~", b"-" * 14)
"""CGI, WSGI and PHP applications read ``X_Real_IP``, and some ``X.Real.IP``, as ``X-Real-IP``: one variable for all."""
_VALUE_BYTES = bytes(code for code in range(256) if code == 9 or 0x20 <= code != 0x7F)
_ENDS = [b"\r\n" * count for count in range(256)]

_KNOWN_LINES = 1024
_KNOWN_LINE_BYTES = 128
_NOT_REMEMBERED = frozenset(
    {b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"traceparent", b"tracestate", b"x-request-id"}
    | {b"if-none-match", b"etag", b"idempotency-key", b"x-correlation-id", b"referer", b"location"}
)
"""Secrets, and what is another one in every message."""

Rule = tuple[bytes, bool]
"""(lower-case name, whether the field is forwarded)."""
Line = tuple[bytes, bytes, bytes]
"""(lower-case name, value, the line as it is forwarded or ``b""`` where it isn't)."""


def check_block(block: bytes, lines: int) -> None:
    """Refuse a head that holds more than visible characters, blanks, and exactly `lines` ends of CRLF.

    One pass in C over the whole head: no NUL, no other control character, no bare CR or LF can be in any line after it
    (RFC 9112, section 2.2; RFC 9110, section 5.5).
    """
    ends = block.translate(None, _VALUE_BYTES)
    if ends != (_ENDS[lines] if lines < 256 else b"\r\n" * lines):
        raise MalformedError("a control character, or a line that doesn't end in CRLF")


class FieldRules:
    """Field name as spelled → (lower-case name, forwarded?), remembered in a bounded table.

    A spelling is checked against the grammar of a token before it is remembered, so that finding it there is proof.
    What an application could take for a dropped field, or for one that may come only once, is dropped as well.

    Whole lines are remembered too, in a second bounded table: most of a head's lines came in the head before.
    """

    __slots__ = ("_dropped", "_owned", "generation", "known", "lines")

    def __init__(self, dropped: frozenset[bytes]) -> None:
        self._dropped = dropped
        self._owned: frozenset[bytes] = frozenset()
        self.known: dict[bytes, Rule] = {}
        self.lines: dict[bytes, Line] = {}
        self.generation = 0
        """Another number after `own`: what was read under the old rules is to be read again."""

    def own(self, names: frozenset[bytes]) -> None:
        """Drop these (lower-case) names too: those in which the sidecar itself tells the application who is calling."""
        self._owned = names
        self.known.clear()
        self.lines.clear()
        self.generation += 1

    def forwards(self, name: bytes) -> bool:
        """Whether a field of this lower-case name goes on."""
        plain = name.translate(_ALIASES)
        if plain in self._dropped or plain in self._owned or plain.startswith(OURS):
            return False
        return plain == name or plain not in SINGLETONS

    def line(self, line: bytes) -> Line:
        """Take a line apart that isn't in `lines`. Its bytes have passed `check_block`. Raises MalformedError."""
        name, raw, (lower, forwarded) = self.read(line)
        value = raw.strip()
        parsed = (lower, value, name + b": " + value if forwarded else b"")
        if len(line) <= _KNOWN_LINE_BYTES and lower not in _NOT_REMEMBERED:
            if len(self.lines) >= _KNOWN_LINES:
                self.lines.clear()
            self.lines[line] = parsed
        return parsed

    def are_known(self, lines: list[bytes]) -> bool:
        """Whether all these lines are of the kind that comes again."""
        return all(line in self.lines for line in lines)

    def read(self, line: bytes) -> tuple[bytes, bytes, Rule]:
        """Name as spelled, value and rule of a line whose name isn't known yet, or that has no blank after its colon.

        Raises MalformedError for a line without a colon, with a blank before it, or that continues another (obs-fold).
        """
        name, colon, value = line.partition(b":")
        rule = self.known.get(name) if colon else None
        if rule is None:
            if not colon or not _TOKEN.fullmatch(name):
                # Never the value: it may be a token or a cookie, and this is for the log.
                shown = f", but with {name[:40]!r}" if colon else ""
                raise MalformedError(f"a header line doesn't begin with a name and a colon{shown}")
            lower = name.lower()
            rule = (lower, self.forwards(lower))
            if len(self.known) < _KNOWN_NAMES and len(name) <= _KNOWN_NAME_BYTES:
                self.known[name] = rule
        return name, value, rule


REQUEST_RULES = FieldRules(HOP_BY_HOP | REWRITTEN_IN_REQUESTS)
RESPONSE_RULES = FieldRules(HOP_BY_HOP | REWRITTEN_IN_RESPONSES)


def join_repeated(lower: bytes, first: bytes, second: bytes) -> bytes:
    """One value for a field that came twice (RFC 9110, section 5.3); refuses where that has no single meaning."""
    if lower in SINGLETONS:
        raise MalformedError(f"{lower.decode()} came twice", "bad_host" if lower == b"host" else "malformed_request")
    return first + (b"; " if lower == b"cookie" else b", ") + second


def connection_options(value: bytes) -> set[bytes]:
    """Lower-case tokens of a Connection field (RFC 9110, section 7.6.1)."""
    return {token for part in value.lower().split(b",") if (token := part.strip(b" \t"))}


def without(lines: list[bytes], fields: dict[bytes, bytes], options: set[bytes]) -> list[bytes]:
    """Take what `Connection` names out of `fields`, and return the lines that go on without it."""
    named = options.intersection(fields)
    if not named:
        return lines
    for name in named:
        del fields[name]
    return lines_without(lines, named)


def lines_without(lines: list[bytes], names: Collection[bytes]) -> list[bytes]:
    """The field lines whose (lower-case) names aren't among these."""
    return [line for line in lines if line[: line.index(b":")].lower() not in names]
