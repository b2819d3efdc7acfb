"""W3C Trace Context: what is continued, what is begun anew, what goes on to the next hop."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.telemetry.trace_context import TraceContext, begin, valid_tracestate

TRACE = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"b7ad6b7169203331"
GOOD = b"00-" + TRACE + b"-" + PARENT + b"-01"
HEADER = re.compile(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]\r\n(tracestate: [\x20-\x7e]+\r\n)?")


def make(
    traceparent: bytes | None,
    tracestate: bytes | None = None,
    *,
    trust: bool = True,
    ratio: float = 0.0,
    rand: random.Random | None = None,
) -> TraceContext:
    return begin(traceparent, tracestate, trust, ratio, rand or random.Random(7))


def test_a_good_header_is_continued_under_a_span_of_our_own() -> None:
    context = make(GOOD, b"vendor=1")
    assert (context.trace_id, context.parent_id, context.sampled, context.state) == (TRACE, PARENT, True, b"vendor=1")
    span = b"%016x" % context.span_id
    assert span != PARENT
    assert context.header() == b"traceparent: 00-%b-%b-01\r\ntracestate: vendor=1\r\n" % (TRACE, span)


def test_without_state_only_traceparent_is_sent() -> None:
    assert re.fullmatch(rb"traceparent: 00-%b-[0-9a-f]{16}-01\r\n" % TRACE, make(GOOD).header())


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        GOOD[:-1],
        GOOD + b"-",
        GOOD + b"-00",
        GOOD + b" ",
        b" " + GOOD[1:],
        GOOD + b", " + GOOD,
        GOOD.upper(),
        b"00-" + TRACE.upper() + b"-" + PARENT + b"-01",
        b"00-" + TRACE + b"-" + PARENT.upper() + b"-01",
        b"00-" + TRACE + b"-" + PARENT + b"-0A",
        b"00-" + b"0" * 32 + b"-" + PARENT + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        b"00-" + TRACE[:-1] + b"g-" + PARENT + b"-01",
        b"00-" + TRACE + b"-" + PARENT + b"-0x",
        b"00_" + TRACE + b"-" + PARENT + b"-01",
        b"00-" + TRACE + b"_" + PARENT + b"-01",
        b"00-" + TRACE + b"-" + PARENT + b"_01",
        b"00-" + TRACE[:-1] + b"--" + PARENT + b"01",
        b"00-" + TRACE + PARENT + b"--01",
        b"00-" + TRACE + b"-" + PARENT[:-1] + b"-001",
        b"ff-" + TRACE + b"-" + PARENT + b"-01",
        b"0g-" + TRACE + b"-" + PARENT + b"-01",
        b"0G-" + TRACE + b"-" + PARENT + b"-01",
        b"-1-" + TRACE + b"-" + PARENT + b"-01",
        b"01-" + TRACE + b"-" + PARENT + b"-0",
        b"01-" + TRACE + b"-" + PARENT + b"-01x",
        b"01-" + TRACE + b"-" + PARENT + b"-01.what-the-future",
        b"01_" + TRACE + b"-" + PARENT + b"-01",
        b"01-" + b"0" * 32 + b"-" + PARENT + b"-01-more",
        b"00-" + TRACE + b"-" + PARENT + b"-01\x00",
        b"00-" + TRACE[:-2] + b"\xc3\xa9-" + PARENT + b"-01",
        b"00-" + TRACE + b"-" + PARENT + b"-\xff\xff",
    ],
)
def test_a_bad_header_begins_a_new_trace_and_voids_the_state(header: bytes) -> None:
    context = make(header, b"vendor=1", ratio=0.0)
    assert context.trace_id != TRACE
    assert re.fullmatch(rb"[0-9a-f]{32}", context.trace_id)
    assert (context.parent_id, context.state, context.sampled) == (b"", b"", False)
    assert HEADER.fullmatch(context.header())


@pytest.mark.parametrize("version", [b"01", b"42", b"cc", b"fe"])
@pytest.mark.parametrize("rest", [b"", b"-", b"-what-the-future-will-be-like"])
def test_later_versions_are_read_as_far_as_known_and_sent_as_00(version: bytes, rest: bytes) -> None:
    context = make(version + GOOD[2:] + rest)
    assert (context.trace_id, context.parent_id, context.sampled) == (TRACE, PARENT, True)
    assert context.header().startswith(b"traceparent: 00-" + TRACE)


@pytest.mark.parametrize(
    ("flags", "sampled", "sent"),
    [
        (b"00", False, b"00"),
        (b"01", True, b"01"),
        (b"02", False, b"02"),
        (b"03", True, b"03"),
        (b"ff", True, b"03"),
        (b"0c", False, b"00"),
        (b"f9", True, b"01"),
        (b"0a", False, b"02"),
        (b"0b", True, b"03"),
    ],
)
def test_flags_known_are_kept_and_unknown_ones_cleared(flags: bytes, sampled: bool, sent: bytes) -> None:
    context = make(GOOD[:-2] + flags)
    assert context.sampled is sampled
    assert context.header().endswith(b"-" + sent + b"\r\n")


@pytest.mark.parametrize(
    ("flags", "trust", "ratio", "sampled"),
    [
        (b"01", True, 0.0, True),
        (b"00", True, 1.0, False),
        (b"01", False, 0.0, False),
        (b"00", False, 1.0, True),
        (b"03", False, 0.0, False),
    ],
)
def test_whose_flag_counts(flags: bytes, trust: bool, ratio: float, sampled: bool) -> None:
    context = make(GOOD[:-2] + flags, trust=trust, ratio=ratio)
    assert context.sampled is sampled
    assert context.flags & 1 == sampled
    assert context.flags & 2 == int(flags, 16) & 2


@pytest.mark.parametrize("header", [None, GOOD])
def test_the_sample_ratio_is_kept(header: bytes | None) -> None:
    rand = random.Random(3)
    sampled = sum(make(header, trust=False, ratio=0.1, rand=rand).sampled for _ in range(10_000))
    assert 900 < sampled < 1100


def test_new_ids_are_random_and_flagged_so() -> None:
    rand = random.Random(1)
    contexts = [make(None, rand=rand) for _ in range(1000)]
    assert len({context.trace_id for context in contexts}) == 1000
    assert len({context.span_id for context in contexts}) == 1000
    assert all(context.flags == 2 for context in contexts)
    assert make(None, rand=random.Random(1)).trace_id == contexts[0].trace_id


class Zeros(random.Random):
    """A source that only gives the value that the specification forbids."""

    def getrandbits(self, k: int, /) -> int:
        return 0


def test_ids_are_never_zero() -> None:
    context = make(None, rand=Zeros())
    assert context.trace_id == b"0" * 31 + b"1"
    assert context.span_id == 1
    assert make(GOOD, rand=Zeros()).header().split(b"-")[2] == b"0" * 15 + b"1"


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        (b"a=1", b"a=1"),
        (b" \ta=1 \t", b"a=1"),
        (b"a=1,b=2", b"a=1,b=2"),
        (b"a=1 \t, ,\t b=2,,", b"a=1,b=2"),
        (b"tenant@system=x,1a=2,a-b_c*d/e=3", b"tenant@system=x,1a=2,a-b_c*d/e=3"),
        (b"a= 1 2", b"a= 1 2"),
        (b"a" * 256 + b"=" + b"v" * 255, b"a" * 256 + b"=" + b"v" * 255),
        (b"a=" + b"v" * 256, b"a=" + b"v" * 256),
        (b",".join(b"k%d=v" % n for n in range(32)), b",".join(b"k%d=v" % n for n in range(32))),
        (b",".join(b"k%d=v" % n for n in range(33)), b""),
        (b"a=" + b"v" * 257, b""),
        (b"a" * 257 + b"=v", b""),
        (b"a=1," + b" " * 600 + b"b=2", b""),
        (b"a=1,a=2", b""),
        (b"", b""),
        (b",", b""),
        (b" , ", b""),
        (b"a", b""),
        (b"a=", b""),
        (b"=1", b""),
        (b"A=1", b""),
        (b"_a=1", b""),
        (b"a =1", b""),
        (b"a=1=2", b""),
        (b"a=1,b", b""),
        (b"a=\xc3\xa9", b""),
        (b"a=1\r\nx-injected: 1", b""),
        (b"a=1\n", b""),
        (b"a=\x00", b""),
        (b"a=1\x7f", b""),
    ],
)
def test_tracestate(raw: bytes, sent: bytes) -> None:
    assert valid_tracestate(raw) == sent
    context = make(GOOD, raw)
    assert context.trace_id == TRACE, "a bad tracestate never touches the trace"
    assert context.state == sent


def test_a_hostile_tracestate_is_refused_in_one_pass() -> None:
    assert valid_tracestate(b"a=" + b" " * 509 + b"\x7f") == b""


@given(
    st.binary(max_size=80) | st.from_regex(rb"[0-9a-fg]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"), st.binary()
)
def test_whatever_comes_what_goes_on_is_valid(traceparent: bytes, tracestate: bytes) -> None:
    context = make(traceparent, tracestate)
    assert HEADER.fullmatch(context.header())
    assert context.trace_id != b"0" * 32
    assert context.span_id > 0
