"""What happens to each header field on its way: one lookup per field, by its name as it was spelled.

Hop-by-hop fields (RFC 9110, section 7.6.1) end here; what describes framing is written anew; what only the sidecar may
say (identity, forwarding, trace context) is taken from nobody else.
"""

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
"""Prefix of the fields that only the sidecar sets; from outside they are dropped."""
OURS_FROM_CLIENTS = frozenset({b"x-outrigger-deadline-ms"})
"""Fields with our prefix that a client may set for the sidecar to read; they are still not forwarded as they came."""

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

Rule = tuple[bytes, bool]
"""(lower-case name, whether the field is forwarded)."""


class FieldRules:
    """Field name as spelled → (lower-case name, forwarded?), remembered in a bounded table."""

    __slots__ = ("_dropped", "known")

    def __init__(self, dropped: frozenset[bytes]) -> None:
        self._dropped = dropped
        self.known: dict[bytes, Rule] = {}

    def learn(self, name: bytes) -> Rule:
        """Classify a spelling that isn't in `known`."""
        lower = name.lower()
        rule = (lower, lower not in self._dropped and not lower.startswith(OURS))
        if len(self.known) < _KNOWN_NAMES:
            self.known[name] = rule
        return rule


REQUEST_RULES = FieldRules(HOP_BY_HOP | REWRITTEN_IN_REQUESTS)
RESPONSE_RULES = FieldRules(HOP_BY_HOP | REWRITTEN_IN_RESPONSES)


def split_field_lines(block: bytes) -> list[tuple[bytes, bytes]]:
    """Fields of a header block that the parser has already accepted (no folding, only CRLF), duplicates kept."""
    pairs = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon:
            raise MalformedError(f"a header line without a colon: {line[:40]!r}")
        pairs.append((name, value.strip(b" \t")))
    return pairs


def join_repeated(lower: bytes, first: bytes, second: bytes) -> bytes:
    """One value for a field that came twice (RFC 9110, section 5.3); refuses where that has no single meaning."""
    if lower in SINGLETONS:
        raise MalformedError(f"{lower.decode()} came twice", "bad_host" if lower == b"host" else "malformed_request")
    return first + (b"; " if lower == b"cookie" else b", ") + second


def connection_options(value: bytes) -> list[bytes]:
    """Lower-case tokens of a Connection field (RFC 9110, section 7.6.1)."""
    return [token for part in value.lower().split(b",") if (token := part.strip(b" \t"))]
