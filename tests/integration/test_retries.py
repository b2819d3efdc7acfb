"""Retries: by cause, only what may be sent twice, byte for byte, within budget and deadline."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.test_failures import free_port
from tests.kit.apps import OK, Received, raw_app
from tests.kit.client import client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar

pytestmark = pytest.mark.asyncio(loop_scope="module")


def answer(status: int, *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {status} Said\r\n{head}content-length: 0\r\n\r\n".encode()


HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhalf"


class Script:
    """An application that answers by `/{route}/{words}/…`: one word for each time that it sees the path."""

    def __init__(self) -> None:
        self.seen: Counter[bytes] = Counter()
        self.bodies: dict[bytes, list[bytes]] = {}
        self.received: dict[bytes, list[Received]] = {}

    async def __call__(self, request: Received) -> bytes | None:
        path = request.line.split(b" ")[1]
        turn = self.seen[path]
        self.seen[path] += 1
        self.received.setdefault(path, []).append(request)
        self.bodies.setdefault(path, []).append(request.body)
        words = path.split(b"/")[2].split(b"-")
        word = words[min(turn, len(words) - 1)].decode()
        if word == "close":
            return None
        if word == "hang":
            await asyncio.sleep(1.5)
        if word.startswith("after"):
            return answer(503, f"retry-after: {word[5:]}")
        return {"ok": OK, "hang": OK, "half": HALF}.get(word) or answer(int(word))


ROUTES: dict[str, dict[str, Any]] = {
    "status": {"retry": {"attempts": 3, "on": [503]}},
    "reset": {"retry": {"attempts": 2, "on": ["reset"]}, "upstream": "fresh"},
    "fresh": {"retry": {}, "upstream": "fresh"},
    "usual": {"retry": {}},
    "none": {},
    "time": {"retry": {"attempts": 10, "on": ["timeout"], "per_try_timeout_s": 0.1}, "timeout_s": 0.5},
    "small": {"retry": {"attempts": 3, "on": [503], "replay_bytes": 1000}},
    "shadow": {"retry": {"attempts": 3, "on": [503], "mode": "shadow"}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def script() -> Script:
    return Script()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(script: Script) -> AsyncIterator[RunningSidecar]:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(raw_app(script))
        alive = await stack.enter_async_context(raw_app(OK))
        dead = f"http://127.0.0.1:{free_port()}"
        routes = [{"name": name, "match": {"path": f"/{name}/**"}, **route} for name, route in ROUTES.items()]
        routes.append({"name": "dead", "match": {"path": "/dead/**"}, "upstream": "dead", "retry": {"attempts": 3}})
        routes.append(
            {"name": "pair", "match": {"path": "/pair/**"}, "upstream": "pair", "retry": {"replay_bytes": 10}}
        )
        upstreams = {
            "dead": {"targets": [dead]},
            "fresh": {"targets": [app.url], "pool": {"max_idle": 0}},
            "pair": {"targets": [dead, alive.url], "balance": "round_robin", "outlier": {"consecutive_5xx": 0}},
        }
        config = {"app": {"url": app.url}, "routes": routes, "upstreams": upstreams}
        yield await stack.enter_async_context(sidecar(config))


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "seen"),
    [
        ("GET", "/status/503-503-ok/1", {}, 200, 3),
        ("GET", "/status/503/exhausted", {}, 503, 3),
        ("GET", "/status/502-ok/not-listed", {}, 502, 1),
        ("GET", "/usual/502-ok/1", {}, 200, 2),
        ("GET", "/fresh/close-ok/1", {}, 200, 2),
        ("GET", "/reset/close-ok/1", {}, 200, 2),
        ("GET", "/reset/close/exhausted", {}, 502, 2),
        ("POST", "/usual/502-ok/post", {}, 502, 1),
        ("POST", "/usual/503-ok/post", {}, 503, 1),
        ("POST", "/usual/504-ok/post", {}, 504, 1),
        ("POST", "/fresh/close-ok/post", {}, 502, 1),
        ("PATCH", "/usual/502-ok/patch", {}, 502, 1),
        ("POST", "/usual/502-ok/key", {"Idempotency-Key": "k"}, 200, 2),
        ("PUT", "/usual/502-ok/put", {}, 200, 2),
        ("DELETE", "/usual/502-ok/delete", {}, 200, 2),
        ("GET", "/none/503-ok/1", {}, 503, 1),
        ("GET", "/shadow/503-ok/1", {}, 503, 1),
        ("GET", "/status/after5-ok/too-long", {}, 503, 1),
        ("GET", "/time/hang-ok/1", {}, 200, 2),
        ("POST", "/time/hang-ok/post", {}, 504, 1),
        ("PUT", "/time/hang-ok/put", {}, 200, 2),
    ],
)
async def test_what_is_tried_again(
    running: RunningSidecar, script: Script, method: str, path: str, headers: dict[str, str], status: int, seen: int
) -> None:
    got = await fetch(running.inbound, path, method=method, headers=headers, body=b"abc" if method[0] == "P" else b"")
    assert got.status == status
    assert script.seen[path.encode()] == seen
    line = await running.line_of(path)
    assert line.get("http.request.resend_count", 0) == seen - 1


async def test_an_answer_that_has_begun_is_never_followed_by_another(running: RunningSidecar, script: Script) -> None:
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await fetch(running.inbound, "/fresh/half-ok/1")
    assert script.seen[b"/fresh/half-ok/1"] == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [1, 4096, 60_000])
async def test_bodies_are_replayed_byte_for_byte(
    running: RunningSidecar, script: Script, size: int, *, chunked: bool
) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path = f"/status/503-503-ok/{size}-{chunked}"
    got = await fetch(running.inbound, path, method="PUT", body=body, chunked=chunked)
    assert got.status == 200
    assert script.bodies[path.encode()] == [body] * 3
    framing = b"transfer-encoding" if chunked else b"content-length"
    assert all(len(request.values(framing)) == 1 for request in script.received[path.encode()])


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_beyond_the_replay_limit_are_sent_once(
    running: RunningSidecar, script: Script, *, chunked: bool
) -> None:
    path = f"/small/503-ok/{chunked}"
    got = await fetch(running.inbound, path, method="PUT", body=b"x" * 5000, chunked=chunked)
    assert got.status == 503
    assert script.bodies[path.encode()] == [b"x" * 5000]


async def test_a_body_that_comes_slowly_is_replayed_whole(running: RunningSidecar, script: Script) -> None:
    async with client(running.inbound) as one:
        one.writer.write(b"PUT /status/503-ok/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(0.1)
            one.writer.write(b"0123456789")
        assert (await one.read()).status == 200
    assert script.bodies[b"/status/503-ok/slow"] == [b"0123456789" * 3] * 2


async def test_retry_after_is_waited_for(running: RunningSidecar, script: Script) -> None:
    began = time.monotonic()
    got = await fetch(running.inbound, "/status/after1-ok/wait")
    assert got.status == 200
    assert time.monotonic() - began >= 1.0


async def test_all_tries_together_stay_within_the_deadline(running: RunningSidecar, script: Script) -> None:
    began = time.monotonic()
    got = await fetch(running.inbound, "/time/hang/for-ever")
    taken_s = time.monotonic() - began
    assert (got.status, got.code) == (504, "timeout")
    assert 0.3 <= taken_s <= 1.5
    assert 2 <= script.seen[b"/time/hang/for-ever"] <= 5


async def test_a_post_whose_connection_failed_goes_to_another_target(running: RunningSidecar) -> None:
    """Nothing was sent, so even a long body that can't be replayed is safe."""
    for number in range(4):
        got = await fetch(running.inbound, f"/pair/{number}", method="POST", body=b"x" * 100_000)
        assert got.status == 200


async def test_a_dead_target_costs_no_more_retries_than_the_budget(running: RunningSidecar) -> None:
    async def some(count: int) -> None:
        async with client(running.inbound) as one:
            for _ in range(count):
                assert (await one.request("GET", "/dead/x")).code == "upstream_unreachable"

    await asyncio.gather(*(some(50) for _ in range(20)))
    retries = await running.metric("outrigger_retries_total", route="dead", cause="connect")
    assert 30 <= retries <= 200
    assert await running.metric("outrigger_retries_denied_total", route="dead", reason="budget") > 0
