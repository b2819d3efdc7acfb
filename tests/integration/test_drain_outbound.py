"""At the end clients leave first: the application can still call upstreams until it is gone itself."""

import asyncio
import signal
import time

import pytest

from tests.kit.apps import Received, raw_app
from tests.kit.client import fetch
from tests.kit.sidecar import sidecar
from tests.kit.until import becomes

LIFECYCLE = {"grace_s": 0, "drain_s": 20}


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def test_an_application_calls_upstreams_until_it_is_gone() -> None:
    outbound: list[tuple[str, int]] = []
    may_call = asyncio.Event()

    async def work(request: Received) -> bytes:
        await may_call.wait()
        stock = await fetch(outbound[0], "/v1/invoke/stock/items", headers={"Host": "localhost"})
        return answer(stock.body)

    async with raw_app(answer(b"7 items")) as stock, raw_app(work) as app:
        config = {"app": {"url": app.url}, "upstreams": {"stock": {"targets": [stock.url]}}, "lifecycle": LIFECYCLE}
        async with sidecar(config) as running:
            outbound.append(running.address("outbound"))
            asked = asyncio.create_task(fetch(running.inbound, "/orders"))
            await running.until_metric(lambda value: value == 1, "http_server_active_requests")
            assert running.process is not None
            running.process.send_signal(signal.SIGTERM)
            await becomes(lambda: running.admin("/lifecycle"), lambda told: b"draining" in told[1])
            may_call.set()
            assert (await asked).body == b"7 items"
            # No client is left, and the application is still there: the process stays, and its own calls go on.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(running.process.wait(), 1.5)
            for _ in range(3):
                assert (await fetch(outbound[0], "/v1/invoke/stock/items", headers={"Host": "localhost"})).status == 200
            assert running.process.returncode is None
            began = time.monotonic()
            await app.stop()
            assert await running.stop() == 0
            assert time.monotonic() - began < 10, "it ends with the application, not at the deadline"


async def test_the_wait_for_the_application_is_bounded() -> None:
    lifecycle = {**LIFECYCLE, "local_api_grace_s": 0.2}
    async with raw_app() as app:
        config = {"app": {"url": app.url}, "upstreams": {"stock": {"targets": [app.url]}}, "lifecycle": lifecycle}
        async with sidecar(config) as running:
            began = time.monotonic()
            assert await running.stop() == 0
            assert time.monotonic() - began < 10
