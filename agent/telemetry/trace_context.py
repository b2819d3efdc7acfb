"""W3C Trace Context, level 2: continue the caller's trace or begin one, and write the headers that go on.

This runs once per request. Measured with timeit on CPython 3.11, where an empty call takes 0.05 µs: `begin` with a
traceparent 0.9 µs, without one 0.8 µs, with a tracestate 1.1 µs more; `header` 0.4 µs. So no regular expression
reads traceparent, there is no `__init__`, and the span id stays a number until it is written.
"""

import random
import re

_HEX = b"0123456789abcdef"
_NO_TRACE = b"0" * 32
_NO_PARENT = b"0" * 16
_SPAN_IDS = float(2**64)
_RANDOM = 2
"""Flag of level 2: at least the last 7 bytes of the trace id are random."""
_KNOWN_FLAGS = bytes(int(chr(code), 16) & 3 if chr(code) in "0123456789abcdef" else 0 for code in range(256))
"""The flags that we know (sampled, random) by the last character of traceparent; unknown ones are sent on as zero."""

_member = re.compile(
    rb"([a-z0-9][a-z0-9_*/@-]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
).fullmatch
_TRACESTATE_BYTES = 512
_TRACESTATE_MEMBERS = 32


class TraceContext:
    """One request's place in its trace. Made by `begin`, never changed after."""

    __slots__ = ("flags", "parent_id", "span_id", "state", "trace_id")

    trace_id: bytes
    """32 lower-case hexadecimal digits, the same from the first caller to the last."""
    parent_id: bytes
    """The caller's span, 16 lower-case hexadecimal digits; ``b""`` where the trace begins here."""
    span_id: int
    """Our own span: what the next hop gets as its parent. 64 bits, never 0; written as ``%016x``."""
    flags: int
    """The trace flags that go on: 1 sampled, 2 random trace id."""
    state: bytes
    """The validated tracestate, ``b""`` where there is none."""

    @property
    def sampled(self) -> bool:
        """Whether spans of this trace are recorded, as the flags say."""
        return self.flags & 1 == 1

    def header(self) -> bytes:
        """The header lines for the next hop, each ending in CRLF: traceparent, and tracestate where there is one."""
        if self.state:
            return b"traceparent: 00-%b-%016x-0%d\r\ntracestate: %b\r\n" % (
                self.trace_id,
                self.span_id,
                self.flags,
                self.state,
            )
        return b"traceparent: 00-%b-%016x-0%d\r\n" % (self.trace_id, self.span_id, self.flags)


def begin(
    traceparent: bytes | None,
    tracestate: bytes | None,
    trust_sampled: bool,
    sample_ratio: float,
    rand: random.Random,
) -> TraceContext:
    """Continue the trace of these two headers (None where one is absent), or begin a new one.

    A bad traceparent, or several of them joined by commas, begins a new trace and voids the tracestate; a bad
    tracestate alone is dropped. With `trust_sampled` the caller's flag decides whether the trace is recorded; where
    it doesn't, or there is no caller, `sample_ratio` (0 to 1) does.
    """
    context = TraceContext()
    context.span_id = span_id = rand.getrandbits(64) or 1
    if traceparent is not None:
        if len(traceparent) != 55 or traceparent[:3] != b"00-":
            traceparent = _known_part(traceparent)
        trace_id, parent_id = traceparent[3:35], traceparent[36:52]
        if (
            traceparent.translate(None, _HEX) == b"---"
            and traceparent[35] == traceparent[52] == 45
            and trace_id != _NO_TRACE
            and parent_id != _NO_PARENT
        ):
            context.trace_id, context.parent_id = trace_id, parent_id
            context.state = b"" if tracestate is None else valid_tracestate(tracestate)
            flags = _KNOWN_FLAGS[traceparent[54]]
            if not trust_sampled:
                # A span id is a uniform number, so it is the die as well.
                flags = flags & _RANDOM | (span_id < sample_ratio * _SPAN_IDS)
            context.flags = flags
            return context
    context.trace_id = b"%032x" % (rand.getrandbits(128) or 1)
    context.parent_id = context.state = b""
    context.flags = _RANDOM | (span_id < sample_ratio * _SPAN_IDS)
    return context


def _known_part(traceparent: bytes) -> bytes:
    """What a later version has in common with version 00 (section 3.2.4), ``b""`` where that is nothing.

    Version ff is forbidden; version 00 has no room for more.
    """
    version = traceparent[:2]
    if len(traceparent) < 55 or version in {b"00", b"ff"} or version.strip(_HEX) or traceparent[2:3] != b"-":
        return b""
    return b"00" + traceparent[2:55] if traceparent[55:56] in {b"", b"-"} else b""


def valid_tracestate(raw: bytes) -> bytes:
    """The list of a tracestate header without empty members and white space around them; ``b""`` where it is invalid.

    Invalid are malformed or repeated keys, malformed values, more than 32 members, more than 512 bytes.
    """
    if len(raw) > _TRACESTATE_BYTES:
        return b""
    if b"," not in raw:
        raw = raw.strip(b" \t")
        return raw if _member(raw) else b""
    members = [member for part in raw.split(b",") if (member := part.strip(b" \t"))]
    if len(members) > _TRACESTATE_MEMBERS:
        return b""
    keys = set()
    for member in members:
        match = _member(member)
        if match is None:
            return b""
        keys.add(match[1])
    return b",".join(members) if len(keys) == len(members) else b""
