"""Applications that close connections just as a request comes: a GET never sees it, a POST is never sent twice."""

import asyncio
from collections import Counter

import pytest

from tests.kit.apps import OK, raw_app, read_request, socket_app
from tests.kit.client import client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar


class Closer:
    """Answers `serves` requests on each connection, and closes without having said so."""

    def __init__(self, serves: int, *, late: bool) -> None:
        """`late` closes only when the next request comes: it is always lost."""
        self._serves = serves
        self._late = late
        self.seen: Counter[bytes] = Counter()
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for _ in range(self._serves):
            request = await read_request(reader)
            if request is None:
                break
            self.seen[request.line] += 1
            writer.write(OK)
            await writer.drain()
        if self._late:
            await reader.read(1)
        writer.close()


async def many(running: RunningSidecar, method: str, count: int, clients: int = 8) -> Counter[int]:
    """Statuses of `count` requests, each to a path of its own, over several keep-alive connections."""
    statuses: Counter[int] = Counter()

    async def some(start: int) -> None:
        async with client(running.inbound) as one:
            for number in range(start, count, clients):
                statuses[(await one.request(method, f"/{number}")).status] += 1

    await asyncio.gather(*(some(start) for start in range(clients)))
    return statuses


@pytest.mark.parametrize("late", [False, True], ids=["closes-at-once", "closes-under-the-request"])
@pytest.mark.parametrize("serves", [1, 3, 7])
async def test_gets_never_see_a_closed_connection(serves: int, *, late: bool) -> None:
    closer = Closer(serves, late=late)
    async with socket_app(closer) as url, sidecar({"app": {"url": url}}) as running:
        assert await many(running, "GET", 1000) == {200: 1000}


async def test_posts_are_never_sent_twice_and_hardly_ever_fail() -> None:
    closer = Closer(3, late=False)
    async with socket_app(closer) as url, sidecar({"app": {"url": url}}) as running:
        statuses = await many(running, "POST", 1000)
    assert max(closer.seen.values()) == 1
    assert statuses[200] >= 900  # closing without a word right after an answer is the worst there is
    assert set(statuses) <= {200, 502}


async def test_what_can_not_be_sent_twice_takes_no_connection_that_idled_long() -> None:
    async with raw_app() as app, sidecar({"app": {"url": app.url}}) as running:
        await fetch(running.inbound, "/", method="POST")
        await fetch(running.inbound, "/", method="POST")
        assert app.connections == 1
        await asyncio.sleep(1.2)
        await fetch(running.inbound, "/")
        assert app.connections == 1
        await asyncio.sleep(1.2)
        await fetch(running.inbound, "/", method="POST")
        assert app.connections == 2


async def test_a_full_pool_makes_room_for_a_request_that_needs_a_new_connection() -> None:
    async with raw_app() as app:
        config = {
            "upstreams": {"one": {"targets": [app.url], "pool": {"max_connections": 1}}},
            "routes": [{"name": "one", "match": {"path": "/**"}, "upstream": "one", "timeout_s": 1}],
        }
        async with sidecar(config) as running:
            assert (await fetch(running.inbound, "/")).status == 200
            await asyncio.sleep(1.2)
            assert (await fetch(running.inbound, "/", method="POST")).status == 200


async def test_an_idle_connection_is_closed_before_the_application_would() -> None:
    async with raw_app() as app:
        pool = {"idle_timeout_s": 0.5}
        async with sidecar({"app": {"url": app.url, "pool": pool}}) as running:
            for _ in range(2):
                await fetch(running.inbound, "/")
                await asyncio.sleep(0.8)
        assert app.connections == 2
