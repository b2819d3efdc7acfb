"""The end of the process: nothing that was accepted is lost, and who can't finish is told about."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.kit.apps import OK, Received, raw_app
from tests.kit.client import Client, client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar

LARGE = 20 * 1024 * 1024


async def by_path(request: Received) -> bytes:
    if b"/slow" in request.line:
        await asyncio.sleep(2)
    if b"/endless" in request.line:
        await asyncio.sleep(60)
    if b"/tunnel" in request.line:
        return b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: bytes\r\n\r\n"
    if b"/large" in request.line:
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE + bytes(LARGE)
    await asyncio.sleep(0.002)
    return OK


async def start(stack: AsyncExitStack, **lifecycle: float) -> RunningSidecar:
    app = await stack.enter_async_context(raw_app(by_path))
    return await stack.enter_async_context(sidecar({"app": {"url": app.url}, "lifecycle": lifecycle}))


async def ready(running: RunningSidecar) -> bool:
    try:
        status, _ = await running.admin("/readyz")
    except (ConnectionError, ValueError):
        return False
    return status == 200


async def ended(running: RunningSidecar) -> int:
    assert running.process is not None
    async with asyncio.timeout(30):
        return await running.process.wait()


def last_words(running: RunningSidecar) -> dict[str, Any]:
    """The log line about how the process ended; the access log of cut requests may come after it."""
    return [line for line in running.log() if str(line.get("message", "")).startswith("stopped")][-1]


async def test_readiness_goes_off_at_once_and_work_is_served_for_the_grace_time() -> None:
    async with AsyncExitStack() as stack:
        running = await start(stack, grace_s=1.5)
        assert await ready(running)
        old = await stack.enter_async_context(client(running.inbound))
        assert (await old.request("GET", "/")).status == 200
        began = time.monotonic()
        os.kill(running.pid, signal.SIGTERM)
        await asyncio.sleep(0.1)
        assert not await ready(running)
        status, body = await running.admin("/readyz")
        assert (status, json.loads(body)["reasons"]) == (503, ["the sidecar is deregistering"])
        assert (await running.admin("/livez"))[0] == 200
        assert (await fetch(running.inbound, "/")).status == 200, "new connections are served"
        answer = await old.request("GET", "/")
        assert (answer.status, old.closed) == (200, False)
        await asyncio.sleep(max(0.0, began + 1.7 - time.monotonic()))
        answer = await old.request("GET", "/")
        assert (answer.status, old.closed) == (200, True), "the last answer says that it is the last"
        assert await ended(running) == 0
        assert time.monotonic() - began < 10
        assert "every accepted request was finished" in last_words(running)["message"]


async def test_what_is_in_flight_finishes() -> None:
    async with AsyncExitStack() as stack:
        running = await start(stack, grace_s=0.2)
        slow = [asyncio.ensure_future(fetch(running.inbound, "/slow")) for _ in range(20)]
        slow_reader = Client(*await asyncio.open_connection(*running.inbound, limit=4096))
        stack.callback(slow_reader.close)
        slow_reader.writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        upload = await stack.enter_async_context(client(running.inbound))
        upload.writer.write(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
        await asyncio.sleep(0.3)
        os.kill(running.pid, signal.SIGTERM)
        await slow_reader.reader.readuntil(b"\r\n\r\n")
        taken = 0
        began = time.monotonic()
        while taken < LARGE:
            piece = await slow_reader.reader.read(262144)
            assert piece, f"cut after {taken} bytes"
            taken += len(piece)
            if time.monotonic() - began < 1.5:
                await asyncio.sleep(0.01)
        upload.writer.write(b"rest")
        answer = await upload.read()
        assert (answer.status, upload.closed) == (200, True)
        assert {answer.status for answer in await asyncio.gather(*slow)} == {200}
        assert await ended(running) == 0


@pytest.mark.parametrize(
    ("signals", "grace_s"),
    [([signal.SIGTERM], 0.5), ([signal.SIGINT], 5), ([signal.SIGTERM, signal.SIGTERM], 20)],
    ids=["SIGTERM", "ctrl-c", "second-SIGTERM-ends-the-grace"],
)
async def test_signals_under_load_lose_nothing(signals: list[signal.Signals], grace_s: float) -> None:
    outcomes: Counter[str] = Counter()

    async def work(running: RunningSidecar) -> None:
        async with client(running.inbound) as one:
            while not one.closed:
                outcomes[str((await one.request("GET", "/work")).status)] += 1

    async with AsyncExitStack() as stack:
        running = await start(stack, grace_s=grace_s)
        clients = [asyncio.ensure_future(work(running)) for _ in range(30)]
        await asyncio.sleep(0.5)
        began = time.monotonic()
        for number in signals:
            os.kill(running.pid, number)
            await asyncio.sleep(0.3)
        await asyncio.gather(*clients)
        assert await ended(running) == 0
        assert time.monotonic() - began < 8
    assert outcomes.keys() == {"200"}


async def test_pipelined_requests_are_answered_up_to_the_one_that_says_close() -> None:
    async with AsyncExitStack() as stack:
        running = await start(stack, grace_s=0)
        one = await stack.enter_async_context(client(running.inbound))
        one.writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.3)
        os.kill(running.pid, signal.SIGTERM)
        assert (await one.read()).status == 200
        assert one.closed
        assert await ended(running) == 0


async def test_idle_connections_hold_nobody_up() -> None:
    async with AsyncExitStack() as stack:
        running = await start(stack, grace_s=0)
        for _ in range(50):
            await stack.enter_async_context(client(running.inbound))
        used = await stack.enter_async_context(client(running.inbound))
        assert (await used.request("GET", "/")).status == 200
        began = time.monotonic()
        os.kill(running.pid, signal.SIGTERM)
        newcomer = await stack.enter_async_context(client(running.inbound))
        assert await ended(running) == 0
        assert time.monotonic() - began < 5
        newcomer.close()


async def test_beyond_the_deadline_requests_are_cut_and_counted() -> None:
    async with AsyncExitStack() as stack:
        running = await start(stack, grace_s=0.2, drain_s=1)
        cut = [asyncio.ensure_future(fetch(running.inbound, "/endless")) for _ in range(3)]
        upgrading = await stack.enter_async_context(client(running.inbound))
        upgrading.writer.write(b"GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: bytes\r\n\r\n")
        await upgrading.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)
        began = time.monotonic()
        os.kill(running.pid, signal.SIGTERM)
        assert await ended(running) == 1
        assert 0.8 <= time.monotonic() - began < 5
        results = await asyncio.gather(*cut, return_exceptions=True)
        assert all(isinstance(result, asyncio.IncompleteReadError | ConnectionError) for result in results)
        line = last_words(running)
        assert (line["level"], line["requests_cut"]) == ("error", 3)
        assert "3 requests were cut off" in line["message"]
        lines = [line for line in await running.access_log(4) if line.get("outrigger.reason") == "drain_deadline"]
        told = [(line["url.path"], line["http.response.status_code"], line["level"]) for line in lines]
        assert sorted(told) == [("/endless", 503, "warning")] * 3 + [("/tunnel", 101, "info")]
        assert all("drain_s had passed" in line["outrigger.why"] for line in lines)


async def test_a_signal_while_draining_ends_at_once() -> None:
    async with AsyncExitStack() as stack:
        running = await start(stack, grace_s=0, drain_s=60)
        cut = asyncio.ensure_future(fetch(running.inbound, "/endless"))
        await asyncio.sleep(0.3)
        os.kill(running.pid, signal.SIGTERM)
        await asyncio.sleep(0.3)
        os.kill(running.pid, signal.SIGTERM)
        assert await ended(running) == 1
        assert isinstance((await asyncio.gather(cut, return_exceptions=True))[0], Exception)
        assert last_words(running)["requests_cut"] == 1


async def test_drain_by_hand_and_undo() -> None:
    async with AsyncExitStack() as stack:
        running = await start(stack, grace_s=0)
        status, body = await running.admin("/drain", {})
        assert (status, json.loads(body)["phase"]) == (202, "deregistering")
        assert not await ready(running)
        assert (await fetch(running.inbound, "/")).status == 200
        status, body = await running.admin("/drain", method="DELETE")
        assert (status, json.loads(body)["phase"]) == (200, "running")
        assert await ready(running)
        status, _ = await running.admin("/drain", {"stop": True})
        assert status == 202
        assert await ended(running) == 0


class Rolling:
    """Two sidecars before one application, and clients that go where `/readyz` says."""

    def __init__(self, stack: AsyncExitStack, url: str) -> None:
        self._stack = stack
        self._url = url
        self.up: list[RunningSidecar] = []
        self.stop = False
        self.outcomes: Counter[str] = Counter()

    async def add(self) -> RunningSidecar:
        config: dict[str, Any] = {"app": {"url": self._url}, "lifecycle": {"grace_s": 1}}
        running = await self._stack.enter_async_context(sidecar(config))
        self.up.append(running)
        return running

    async def watch(self) -> None:
        """The load balancer: whoever isn't ready gets nothing new."""
        while not self.stop:
            for running in list(self.up):
                if not await ready(running):
                    self.up.remove(running)
            await asyncio.sleep(0.1)

    async def client(self, number: int) -> None:
        """Keeps its connection as long as it may: a few requests after readiness went off, too."""
        while not self.stop:
            running = self.up[number % len(self.up)]
            async with client(running.inbound) as one:
                while not self.stop and not one.closed and running in self.up:
                    answer = await one.request("GET" if number % 3 else "POST", "/work")
                    self.outcomes[answer.code or str(answer.status)] += 1

    async def replace(self, running: RunningSidecar) -> int:
        await self.add()
        os.kill(running.pid, signal.SIGTERM)
        return await ended(running)


async def test_rolling_three_times_under_load_loses_no_request() -> None:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(raw_app(by_path))
        rolling = Rolling(stack, app.url)
        first, second = await rolling.add(), await rolling.add()
        clients = [asyncio.ensure_future(rolling.client(number)) for number in range(20)]
        watch = asyncio.ensure_future(rolling.watch())
        await asyncio.sleep(0.3)
        codes = [await rolling.replace(first), await rolling.replace(second)]
        codes.append(await rolling.replace(rolling.up[0]))
        rolling.stop = True
        await asyncio.gather(*clients, watch)
    assert codes == [0, 0, 0]
    assert rolling.outcomes.keys() == {"200"}
    assert rolling.outcomes["200"] == len([request for request in app.received if b"/work" in request.line])
