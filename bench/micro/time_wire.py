"""Heads, paths and trace context: what every request costs before any policy is asked."""

import random
from collections.abc import Iterator

from agent.telemetry import trace_context
from agent.wire.h1_request import HeadLimits, RequestParser
from agent.wire.path import normalise
from bench.micro.timing import Micro

_PLAIN = b"/orders/2f0d3c1e/items/42"
_ESCAPED = b"/orders/%e4%bd%a0/items/a%20b"
_DOTTED = b"/orders/./42/../43//items"
_HEAD = (
    b"GET /orders/42 HTTP/1.1\r\nHost: orders.example\r\nAccept: application/json\r\nUser-Agent: bench/1.0\r\n"
    b"Authorization: Bearer " + b"x" * 700 + b"\r\n\r\n"
)
_PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def micros() -> Iterator[Micro]:
    """Straight paths first, then the detours."""
    yield Micro("path.normalise, plain", lambda: normalise(_PLAIN))
    yield Micro("path.normalise, escapes", lambda: normalise(_ESCAPED))
    yield Micro("path.normalise, dot segments", lambda: normalise(_DOTTED))
    parser = RequestParser(HeadLimits())
    yield Micro("h1_request.parse, head with a token", lambda: parser.parse(_HEAD))
    rng = random.Random(1)
    yield Micro("trace_context.begin, new trace", lambda: trace_context.begin(None, None, False, 0.1, rng))
    yield Micro("trace_context.begin, continued", lambda: trace_context.begin(_PARENT, None, True, 0.1, rng))
