"""The application restarts: requests that come meanwhile wait for it, bounded in number and in time."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from agent.proxy.hold import Hold, HoldFullError
from tests.integration.test_failures import free_port
from tests.kit.apps import OK, RawApp, Received
from tests.kit.client import client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar


async def briefly(_: Received) -> bytes:
    await asyncio.sleep(0.002)
    return OK


async def load(running: RunningSidecar, stop: asyncio.Event, method: str = "GET", clients: int = 50) -> Counter[str]:
    """Requests without a pause over keep-alive connections until `stop`; what came of them."""
    outcomes: Counter[str] = Counter()

    async def one_client() -> None:
        async with client(running.inbound) as one:
            while not stop.is_set():
                answer = await one.request(method, "/")
                outcomes[answer.code or str(answer.status)] += 1

    await asyncio.gather(*(one_client() for _ in range(clients)))
    return outcomes


async def restart(app: RawApp, gone_s: float) -> None:
    port = app.port
    await app.stop()
    await asyncio.sleep(gone_s)
    await app.start(port)


async def test_a_restart_under_load_fails_no_request() -> None:
    app = RawApp(briefly)
    await app.start()
    async with sidecar({"app": {"url": app.url}}) as running:
        stop = asyncio.Event()
        work = asyncio.ensure_future(load(running, stop))
        for _ in range(3):
            await asyncio.sleep(0.4)
            await restart(app, 1.0)
        await asyncio.sleep(0.4)
        stop.set()
        outcomes = await work
        assert await running.metric("outrigger_upstream_held_requests", upstream="app") == 0
        waits = [line for line in running.log() if line.get("outrigger.wait.duration", 0) > 0.5]
        counted = await running.metric("http_server_request_duration_seconds_count", http_route="default")
    await app.stop()
    for line in waits:
        own = line["outrigger.upstream.duration"] + line["outrigger.wait.duration"]
        assert own == pytest.approx(line["http.server.request.duration"], abs=1e-5)
    assert len(waits) >= 50, "every client was held"
    assert counted == outcomes["200"], "the route has one name in log and metrics"
    assert outcomes.keys() == {"200"}, outcomes
    assert outcomes["200"] > 500


async def gone(**hold: Any) -> dict[str, Any]:
    return {"app": {"url": f"http://127.0.0.1:{free_port()}", "hold": hold}}


async def test_the_wait_is_bounded_in_time() -> None:
    async with sidecar(await gone(max_wait_s=0.5)) as running:
        began = time.monotonic()
        answer = await fetch(running.inbound, "/late")
        assert (answer.status, answer.code) == (503, "upstream_unreachable")
        assert 0.4 <= time.monotonic() - began < 3
        assert "not back within 0.5 s" in (await running.line_of("/late"))["outrigger.why"]


async def test_the_routes_time_bounds_it_as_well() -> None:
    config = await gone(max_wait_s=30) | {"routes": [{"name": "quick", "timeout_s": 0.4}]}
    async with sidecar(config) as running:
        answer = await fetch(running.inbound, "/")
        assert (answer.status, answer.code) == (504, "timeout")


async def waiting(running: RunningSidecar, count: int) -> None:
    held = -1.0
    async with asyncio.timeout(5):
        while held != count:
            held = await running.metric("outrigger_upstream_held_requests", upstream="app")


async def test_the_number_is_bounded_and_who_leaves_makes_room() -> None:
    async with sidecar(await gone(max_requests=3, max_wait_s=20)) as running:
        held = [asyncio.ensure_future(fetch(running.inbound, "/held")) for _ in range(3)]
        await waiting(running, 3)
        answer = await fetch(running.inbound, "/too-many")
        assert (answer.status, answer.code) == (503, "overloaded")
        held.pop().cancel()
        await waiting(running, 2)
        held.append(asyncio.ensure_future(fetch(running.inbound, "/held")))
        await waiting(running, 3)
        for request in held:
            request.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await waiting(running, 0)


async def test_nobody_is_held_where_that_is_switched_off() -> None:
    async with sidecar(await gone(max_requests=0)) as running:
        answer = await fetch(running.inbound, "/")
        assert (answer.status, answer.code) == (503, "upstream_unreachable")


@pytest.mark.parametrize("held", [1, 40])
async def test_one_prober_looks_for_all_and_never_floods(held: int) -> None:
    looks, back = 0, False

    async def is_reachable() -> bool:
        nonlocal looks
        looks += 1
        return back

    hold = Hold(100, 10)
    waiters = [asyncio.ensure_future(hold.until_back(is_reachable)) for _ in range(held)]
    await asyncio.sleep(1.5)
    assert 3 <= looks <= 9
    assert hold.held == held
    back = True
    await asyncio.gather(*waiters)
    seen = looks
    await asyncio.sleep(0.6)
    assert (looks, hold.held) == (seen, 0)


async def test_an_application_that_flaps_is_not_waited_for_longer() -> None:
    async def is_reachable() -> bool:
        return True

    hold = Hold(100, 10)
    with pytest.raises(HoldFullError, match="10 s"):
        await hold.until_back(is_reachable, waited_s=10.0)
