"""What a flood may cost: work grows with its bytes and not with their square, and memory has a bound.

Each cost is CPU time, the least of several runs, at 16 times the size: linear work takes 16 times as long, quadratic
256 times. The bound between is far from both, so that a busy machine can't decide the test.
"""

import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest

from agent.ports.policy import Deny, Policy, Verdict
from agent.proxy.downstream import Downstream
from agent.proxy.refusals import REFUSALS
from agent.telemetry.trace_context import valid_tracestate
from agent.wire.errors import MalformedError
from agent.wire.forwarded import Trust
from agent.wire.h1_body import ChunkedBody
from agent.wire.h1_request import HeadLimits, RequestParser
from agent.wire.h1_response import ResponseParser
from agent.wire.head import RequestHead
from agent.wire.path import AmbiguousPathError, BadTargetError, normalise, split_authority, split_target
from tests.kit.head import request_head
from tests.kit.wire import OK, Wire

GROWTH = 16
BETWEEN = 96
ROOMY = HeadLimits(bytes=1 << 24, fields=100)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LINE = b"GET / HTTP/1.1\r\nHost: a\r\n"


def cost(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def assert_linear(work: Callable[[int], object], small: int) -> None:
    """`work(size)` may take what its size is worth; sizes at which it takes no time are too small to judge."""
    work(small)
    assert cost(lambda: work(small * GROWTH)) < BETWEEN * max(cost(lambda: work(small)), 2e-5)


def refused(work: Callable[[], object]) -> None:
    """Run what may refuse its input: what counts is what that costs."""
    with suppress(MalformedError, AmbiguousPathError, BadTargetError):
        work()


def parse(data: bytes) -> None:
    refused(lambda: RequestParser(ROOMY).parse(data))


def trust_forwarded(value: bytes) -> None:
    trust = Trust(["127.0.0.1"], header="forwarded")
    head = request_head(fields={b"forwarded": value})
    trust.complete(head)
    trust.lines(head)


HEADS: dict[str, Callable[[int], bytes]] = {
    "connection options": lambda n: LINE + b"Connection: " + b"keep-alive," * n + b"\r\n\r\n",
    "named fields": lambda n: LINE + b"Connection: " + b",".join(b"x%d" % i for i in range(n)) + b"\r\n\r\n",
    "one name again and again": lambda n: LINE + b"X: a\r\n" * n + b"\r\n",
    "names": lambda n: LINE + b"".join(b"X%d: a\r\n" % i for i in range(n)) + b"\r\n",
    "blanks": lambda n: LINE + b"X: a" + b" " * n + b"b\r\n\r\n",
    "a long name": lambda n: LINE + b"x" * n + b"\x80: a\r\n\r\n",
    "a transfer coding": lambda n: LINE + b"Transfer-Encoding: chunked" + b"," * n + b"\r\n\r\n",
    "escapes": lambda n: b"GET /" + b"%41" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "dots": lambda n: b"GET /" + b"a/../" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a host": lambda n: b"GET / HTTP/1.1\r\nHost: " + b"a." * n + b"\r\n\r\n",
    "an absolute target": lambda n: b"GET http://" + b"a" * n + b"?" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "upgrades": lambda n: LINE + b"Upgrade: " + b"a," * n + b"\r\nConnection: " + b"upgrade," * n + b"\r\n\r\n",
    "blanks in the request line": lambda n: b"GET" + b" " * n + b"/ HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_heads(make: Callable[[int], bytes]) -> None:
    assert_linear(lambda n: parse(make(n)), 1000)


ANSWERS: dict[str, Callable[[int], bytes]] = {
    "named fields": lambda n: b"Connection: " + b",".join(b"x%d" % i for i in range(n)) + b"\r\n",
    "one name again and again": lambda n: b"X: a\r\n" * n,
    "cookies": lambda n: b"Set-Cookie: a=b\r\n" * n,
}


@pytest.mark.parametrize("make", ANSWERS.values(), ids=ANSWERS)
def test_answers(make: Callable[[int], bytes]) -> None:
    def work(n: int) -> None:
        data = b"HTTP/1.1 200 OK\r\n" + make(n) + b"\r\n"
        refused(lambda: ResponseParser(1 << 24).parse(data, to_head=False))

    assert_linear(work, 1000)


BODIES: dict[str, Callable[[int], bytes]] = {
    "tiny chunks": lambda n: b"1\r\na\r\n" * n,
    "extensions": lambda n: b"1;aaaaaaaa\r\na\r\n" * n,
    "trailers": lambda n: b"0\r\n" + b"a:\r\n" * n,
    "blanks in a trailer": lambda n: b"0\r\na:" + b" " * n + b"\x00\r\n",
    "blanks in an extension": lambda n: b"1" + b" " * n + b"\x00\r\n",
    "a size without end": lambda n: b"1" * n,
}


@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)
def test_chunked_bodies(make: Callable[[int], bytes]) -> None:
    assert_linear(lambda n: refused(lambda: ChunkedBody().feed(make(n))), 1000)


def test_chunks_may_not_be_mostly_extensions() -> None:
    """CVE-2023-39326: data in tiny chunks is dear enough, and a large chunk may have what extension it likes."""
    ChunkedBody().feed(b"1;aaaaaaa\r\na\r\n" * 5000)
    ChunkedBody().feed((b"400;" + b"a" * 900 + b"\r\n" + b"x" * 1024 + b"\r\n") * 100)
    with pytest.raises(MalformedError):
        ChunkedBody().feed((b"1;" + b"a" * 900 + b"\r\na\r\n") * 30)


VALUES: dict[str, Callable[[int], object]] = {
    "Forwarded: blanks": lambda n: trust_forwarded(b"for=1.2.3.4" + b" " * n + b"x"),
    "Forwarded: parameters": lambda n: trust_forwarded(b"a=b;" * n + b"!"),
    "Forwarded: a token": lambda n: trust_forwarded(b"a" * n),
    "Forwarded: a quote without end": lambda n: trust_forwarded(b'for="' + b"a" * n),
    "Forwarded: elements": lambda n: trust_forwarded(b"for=127.0.0.1," * n),
    "tracestate: members": lambda n: valid_tracestate(b"a=b," * n),
    "tracestate: one member": lambda n: valid_tracestate(b"a" * n + b"=" + b" " * n),
    "path: escapes": lambda n: refused(lambda: normalise(b"/" + b"%2e" * n)),
    "path: dot segments": lambda n: refused(lambda: normalise(b"/." * n + b"/" + b"../" * n)),
    "path: slashes": lambda n: refused(lambda: normalise(b"/" * n + b".")),
    "path: parameters": lambda n: refused(lambda: normalise(b"/a;" * n + b"\x00")),
    "path: clean up to its end": lambda n: refused(lambda: normalise(b"/a" * n + b"\\")),
    "authority": lambda n: refused(lambda: split_authority(b"a" * n + b":" + b"1" * n)),
    "authority: brackets": lambda n: refused(lambda: split_authority(b"[" + b":" * n)),
    "target": lambda n: refused(lambda: split_target(b"http://" + b"a" * n + b"/" * n + b"?" * n + b"#", b"GET")),
}


@pytest.mark.parametrize("work", VALUES.values(), ids=VALUES)
def test_values(work: Callable[[int], object]) -> None:
    assert_linear(work, 1000)


def test_a_head_that_trickles_costs_little_more_than_its_events() -> None:
    """Each event copies what there is: the square of 32 KiB, but at memory speed."""
    wire = Wire()
    client = wire.client()
    head = LINE + b"X: " + b"a" * 30000 + b"\r\n\r\n"
    start = time.process_time()
    for at in range(len(head)):
        client.protocol.data_received(head[at : at + 1])
    assert time.process_time() - start < 10  # measured: 0.5 s; and nobody can send 30,000 segments for less
    wire.settle()
    assert len(wire.seen) == 1


def test_empty_lines_cost_what_they_are_worth() -> None:
    def work(n: int) -> None:
        Wire().client().protocol.data_received(b"\r\n" * n)

    assert_linear(work, 8000)


@pytest.mark.parametrize("answer_first", [True, False])
def test_pipelined_requests_cost_what_they_are_worth(answer_first: bool) -> None:
    """The whole read is looked at once per request at most in passing: copying the rest."""

    def work(n: int) -> None:
        parser, data = RequestParser(HeadLimits()), GET * n + b"" if answer_first else GET * n + b"G"
        while (parsed := parser.parse(data)) is not None:
            data = data[parsed[1] :]
            if not data:
                break

    assert_linear(work, 75)


class _Refuse(Policy):
    name = "refuse"

    def __init__(self) -> None:
        self.asked = 0

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        self.asked += 1
        return Deny(REFUSALS["token_missing"])

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        return "deny", ""


def test_a_read_full_of_requests_leaves_the_others_their_turn() -> None:
    policy = _Refuse()
    wire = Wire(chain=(policy,))
    client = wire.client()
    client.protocol.data_received(GET * 5000)
    assert policy.asked == 64
    assert client.is_paused, "and meanwhile no more is read"
    wire.soon.pop()()
    assert policy.asked == 128
    wire.settle()
    protocol = client.protocol
    assert isinstance(protocol, Downstream)
    protocol._go_on()
    wire.settle()
    assert not client.is_paused


def test_refusals_do_not_pile_up_for_a_client_that_does_not_read() -> None:
    policy = _Refuse()
    wire = Wire(chain=(policy,))
    client = wire.client()
    client.stall_at = 5000
    client.inbox.extend([GET * 1000] * 5)
    wire.settle()
    assert policy.asked < 64
    client.protocol.resume_writing()
    wire.settle()
    assert policy.asked == 5000


def test_what_is_read_ahead_is_bounded() -> None:
    wire = Wire(lambda _: None)
    client = wire.client()
    client.inbox.extend([GET * 1000] * 8)
    wire.settle()
    assert client.is_paused
    assert len(client.inbox) >= 4
    assert len(wire.seen) == 1
    wire.answer = lambda _: OK
    wire.servers[0].transport.inbox.append(OK)
    wire.settle()
    assert len(wire.seen) == 8000


def test_a_hundred_unfinished_heads_cost_what_was_sent() -> None:
    wire = Wire()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(100):
        client = wire.client()
        for piece in (LINE, b"X: ", *[b"a" * 4000] * 8):
            client.protocol.data_received(piece)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held < 100 * 40_000
    wire.advance(20)
    assert all(client.lost for client in wire.clients)
    assert wire.context.in_flight == 0


def test_made_up_names_and_hosts_leave_little_behind() -> None:
    wire = Wire()
    client = wire.client()
    before = wire.registry.series
    tracemalloc.start()
    for number in range(2000):
        name = b"x-%d-" % number + b"n" * 2000
        wire.send(client, b"GET /%d HTTP/1.1\r\nHost: h%d\r\n%b: a\r\n\r\n" % (number, number, name))
        client.written = b""
        wire.servers[0].transport.written = b""
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(wire.surface.rules.known) <= 1024
    assert held < 12_000_000, "with what the access log may keep"
    assert wire.registry.series - before < 20
