"""Mirrored requests: a true copy, that can neither delay nor fail the original."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.integration.test_failures import free_port, hangs, says
from tests.kit.apps import RawApp, raw_app, socket_app
from tests.kit.client import client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD = ("gone", "garbage", "hanging", "closing")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def copies() -> AsyncIterator[RawApp]:
    async with raw_app(b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nbad") as app:
        yield app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app() -> AsyncIterator[RawApp]:
    async with raw_app() as app:
        yield app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(app: RawApp, copies: RawApp) -> AsyncIterator[RunningSidecar]:
    async with AsyncExitStack() as stack:
        urls = {
            "good": copies.url,
            "gone": f"http://127.0.0.1:{free_port()}",
            "garbage": await stack.enter_async_context(socket_app(says(b"SSH-2.0-x\r\n"))),
            "hanging": await stack.enter_async_context(socket_app(hangs)),
            "closing": await stack.enter_async_context(socket_app(says(b""))),
        }
        routes: list[dict[str, object]] = [
            {"name": name, "match": {"path": f"/{name}/**"}, "mirror": name} for name in urls
        ]
        routes.append({
            "name": "queue", "match": {"path": "/queue/**"}, "mirror": "good",
            "concurrency": {"max_in_flight": 1, "queue_timeout_s": 5},
        })  # fmt: skip
        routes.append({"name": "self", "match": {"path": "/self/**"}, "mirror": "app"})
        upstreams = {name: {"targets": [url]} for name, url in urls.items()}
        yield await stack.enter_async_context(
            sidecar({"app": {"url": app.url}, "upstreams": upstreams, "routes": routes})
        )


@pytest.mark.parametrize(
    ("method", "body", "chunked"),
    [
        ("GET", b"", False),
        ("POST", b"x" * 50_000, False),
        ("POST", b"y" * 20_000, True),
        ("POST", b"", False),
    ],
)
async def test_a_copy_goes_to_the_mirror_with_its_body(
    running: RunningSidecar, app: RawApp, copies: RawApp, method: str, body: bytes, *, chunked: bool
) -> None:
    seen = len(copies.received)
    answer = await fetch(running.inbound, "/good/x?q=1", method=method, body=body, chunked=chunked)
    assert (answer.status, answer.body, answer.origin) == (200, b"ok", "app")
    await until(lambda: len(copies.received) > seen)
    original, copy = app.received[-1], copies.received[-1]
    assert copy.line == original.line == f"{method} /good/x?q=1 HTTP/1.1".encode()
    assert copy.body == original.body == body
    assert copy.values(b"traceparent") == original.values(b"traceparent")


async def test_a_request_that_waited_for_its_turn_is_copied_whole(running: RunningSidecar, copies: RawApp) -> None:
    seen = len(copies.received)
    bodies = [bytes([65 + number]) * 3000 for number in range(8)]
    answers = await asyncio.gather(*(fetch(running.inbound, "/queue/x", method="PUT", body=body) for body in bodies))
    assert {answer.status for answer in answers} == {200}
    await until(lambda: len(copies.received) == seen + 8)
    assert sorted(copy.body for copy in copies.received[seen:]) == bodies


async def test_the_application_may_be_its_own_mirror(running: RunningSidecar, app: RawApp) -> None:
    seen = len(app.received)
    await fetch(running.inbound, "/self/x")
    await until(lambda: len(app.received) == seen + 2)


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_mirror_neither_delays_nor_fails_the_original(running: RunningSidecar, name: str) -> None:
    began = time.monotonic()
    async with client(running.inbound) as one:
        for _ in range(100):
            answer = await one.request("POST", f"/{name}/x", body=b"abc")
            assert (answer.status, answer.body) == (200, b"ok")
    assert time.monotonic() - began < 5
    async with asyncio.timeout(5):
        counted = 0.0
        wanted = 36 if name == "hanging" else 100  # 64 wait for their answer at a time
        while counted < wanted:
            counted = sum([
                await running.metric("outrigger_mirrored_requests_total", upstream=name, result=result)
                for result in ("failed", "dropped")
            ])  # fmt: skip
    dropped = await running.metric("outrigger_mirrored_requests_total", upstream=name, result="dropped")
    assert dropped == 36 if name == "hanging" else True


async def test_long_bodies_are_not_copied(running: RunningSidecar, copies: RawApp) -> None:
    seen = len(copies.received)
    before = await running.metric("outrigger_mirrored_requests_total", upstream="good", result="dropped")
    assert (await fetch(running.inbound, "/good/x", method="POST", body=b"x" * 200_000)).status == 200
    assert await running.metric("outrigger_mirrored_requests_total", upstream="good", result="dropped") == before + 1
    assert len(copies.received) == seen
