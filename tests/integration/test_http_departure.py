"""Clients that leave, at any moment: the application is told, nothing stays in flight, the log says who it was."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.kit.apps import socket_app
from tests.kit.client import client
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.until import becomes

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
PARTIAL = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello"


class App:
    """Notes what it reads and when a connection ends; answers `/ok` at once, and `/part` with half an answer."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.read = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                self.read += data
                if data.startswith(b"GET /ok"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                elif data.startswith(b"GET /part"):
                    writer.write(PARTIAL)
                    self.began.set()
                else:
                    self.began.set()
        self.ended.set()
        writer.close()


@pytest.fixture
async def app() -> App:
    return App()


@pytest.fixture
async def running(app: App) -> AsyncIterator[RunningSidecar]:
    async with socket_app(app.serve) as url:
        config = {"app": {"url": url, "max_concurrency": 1, "queue_timeout_s": 30}, "limits": {"body_bytes": 0}}
        async with sidecar(config) as process:
            yield process


async def none_in_flight(process: RunningSidecar, *, within_s: float = 2.0) -> None:
    await becomes(lambda: process.metric("http_server_active_requests"), lambda count: count == 0, within_s=within_s)


@pytest.mark.parametrize("abrupt", [False, True])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (GET, 499),
        (b"GET /part HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000), 499),
        (b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 499),
    ],
    ids=["waiting", "reading", "uploading", "chunking"],
)
async def test_a_client_leaves(running: RunningSidecar, app: App, sent: bytes, status: int, abrupt: bool) -> None:
    reader, writer = await asyncio.open_connection(*running.inbound)
    writer.write(sent)
    async with asyncio.timeout(5):
        await app.began.wait()
        if status == 200:
            await reader.readuntil(b"hello")
    assert await running.metric("http_server_active_requests") == 1
    if abrupt:
        writer.transport.abort()
    else:
        writer.close()
    async with asyncio.timeout(5):
        await app.ended.wait()
    await none_in_flight(running)
    [line] = await running.access_log(1)
    assert (line["http.response.status_code"], line["outrigger.reason"]) == (status, "client_gone")
    assert await running.metric("outrigger_requests_cut_total", reason="client_gone") == 1
    assert await running.metric("outrigger_refusals_total", code="client_gone") == 0, "nobody was refused"
    async with client(running.inbound) as other:  # the one slot is free again
        assert (await other.request("GET", "/ok")).body == b"ok"


async def test_a_client_leaves_while_its_request_waits_for_a_slot(running: RunningSidecar, app: App) -> None:
    _, first = await asyncio.open_connection(*running.inbound)
    first.write(GET)
    async with asyncio.timeout(5):
        await app.began.wait()
    _, second = await asyncio.open_connection(*running.inbound)
    second.write(b"GET /parked HTTP/1.1\r\nHost: a\r\n\r\n")
    await becomes(lambda: running.metric("http_server_active_requests"), lambda count: count == 2)
    second.close()
    [line] = await running.access_log(1)
    assert (line["http.response.status_code"], line["outrigger.reason"]) == (499, "client_gone")
    assert line["url.path"] == "/parked"
    assert await running.metric("http_server_active_requests") == 1
    first.close()
    await none_in_flight(running)
    assert b"parked" not in app.read
    async with client(running.inbound) as other:
        assert (await other.request("GET", "/ok")).body == b"ok"


async def test_a_client_leaves_while_the_application_is_away() -> None:
    config = {"app": {"url": "http://127.0.0.1:9", "hold": {"max_wait_s": 30}}}
    async with sidecar(config) as process:
        _, writer = await asyncio.open_connection(*process.inbound)
        writer.write(GET)
        await becomes(lambda: process.metric("outrigger_upstream_held_requests"), lambda count: count == 1)
        writer.close()
        await none_in_flight(process)
        [line] = await process.access_log(1)
        assert (line["http.response.status_code"], line["outrigger.reason"]) == (499, "client_gone")


async def test_pipelined_requests_of_a_client_that_left_are_not_sent(running: RunningSidecar, app: App) -> None:
    _, writer = await asyncio.open_connection(*running.inbound)
    writer.write(GET + b"DELETE /b HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(5):
        await app.began.wait()
    writer.close()
    async with asyncio.timeout(5):
        await app.ended.wait()
    await none_in_flight(running)
    assert b"DELETE" not in app.read
    assert len(await running.access_log(1)) == 1


async def test_many_that_leave_at_once_leave_nothing_behind(running: RunningSidecar) -> None:
    writers = [(await asyncio.open_connection(*running.inbound))[1] for _ in range(200)]
    for writer in writers:
        writer.write(GET * 3)
    # One at work, 128 in line.
    await becomes(lambda: running.metric("http_server_active_requests"), lambda count: count >= 129)
    for writer in writers:
        writer.transport.abort()
    await none_in_flight(running, within_s=10)
    await becomes(lambda: running.metric("http_server_open_connections"), lambda count: count == 0)
    async with client(running.inbound) as other:
        assert (await other.request("GET", "/ok")).body == b"ok"
