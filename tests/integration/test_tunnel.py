"""Upgraded connections: after the same policies as every request, bytes move both ways and nobody reads them."""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.kit.apps import ask, raw_app, socket_app, split_answer
from tests.kit.client import client
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.streams import MIB, Memory, blocking_app, read_head, take
from tests.kit.tokens import ISSUER, SECRET, claims, token
from tests.kit.until import becomes, until

UPGRADE = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: Line/1.0\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: line/1.0\r\n\r\n"
TOTAL = 256 * MIB


async def chat(codes: list[int | None], request: web.Request) -> web.WebSocketResponse:
    """Echoes in capitals; `close` closes, `die` cuts."""
    ws = web.WebSocketResponse(protocols=("chat",), max_msg_size=0)
    await ws.prepare(request)
    try:
        async for message in ws:
            if message.data == "close":
                await ws.close(code=4000, message=b"enough")
            elif message.data == "die":
                assert request.transport is not None
                request.transport.abort()
            elif message.type is aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data.upper())
            else:
                await ws.send_bytes(message.data)
    finally:
        codes.append(ws.close_code)
    return ws


@pytest.fixture
async def codes() -> list[int | None]:
    return []


@pytest.fixture
async def running(codes: list[int | None]) -> AsyncIterator[RunningSidecar]:
    application = web.Application()
    application.router.add_get("/chat", partial(chat, codes))
    server = TestServer(application)
    await server.start_server()
    config = {
        "app": {"url": f"http://127.0.0.1:{server.port}"},
        "issuers": {"main": {"issuer": ISSUER, "audiences": ["orders"], "algorithms": ["HS256"], "secret": SECRET}},
    }
    async with sidecar(config) as process:
        yield process
    await server.close()


def good_token() -> str:
    now = time.time()
    return token(claims(exp=now + 600, iat=now), alg="HS256", kid=None, key=SECRET.encode()).decode()


async def test_a_websocket_behind_the_same_policies(running: RunningSidecar, codes: list[int | None]) -> None:
    url = "http://{}:{}/chat".format(*running.inbound)
    headers = {"Authorization": f"Bearer {good_token()}"}
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url)
        assert refused.value.status == 401
        assert refused.value.headers is not None
        assert refused.value.headers["x-outrigger-reason"] == "token_missing"
        async with session.ws_connect(url, headers=headers, protocols=("chat",), max_msg_size=0) as ws:
            assert ws.protocol == "chat"
            for n in range(50):
                await ws.send_str(f"n{n}")
                assert await ws.receive_str(timeout=5) == f"N{n}"
            large = bytes(range(256)) * (16 * MIB // 256)
            await ws.send_bytes(large)
            assert await ws.receive_bytes(timeout=30) == large
            assert await running.metric("http_server_active_requests") == 0  # a tunnel is no request in flight
        async with session.ws_connect(url, headers=headers) as ws:
            await ws.send_str("close")
            message = await ws.receive(timeout=5)
            assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4000, "enough")
        async with session.ws_connect(url, headers=headers) as ws:
            await ws.send_str("die")
            assert (await ws.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        ws = await session.ws_connect(url, headers=headers)
        assert ws._response.connection is not None
        assert ws._response.connection.transport is not None
        ws._response.connection.transport.abort()
        ws._response.close()
        await until(lambda: len(codes) == 4, within_s=5)
    lines = await running.access_log(5)
    assert [line["http.response.status_code"] for line in lines] == [401, 101, 101, 101, 101]
    assert lines[1]["http.response.body.size"] > 16 * MIB
    await becomes(lambda: running.metric("http_server_open_connections"), lambda count: count == 0)
    assert await running.stop(signal.SIGINT, wait_s=10) == 0


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(SWITCHED + b"hello")
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"bye")
    writer.close()


async def test_any_protocol_with_what_came_early_and_half_closed() -> None:
    async with socket_app(echo) as url, sidecar({"app": {"url": url}}) as process:
        reader, writer = await asyncio.open_connection(*process.inbound)
        writer.write(UPGRADE + b"early")
        head = await reader.readuntil(b"\r\n\r\n")
        status, fields, _ = split_answer(head)
        assert (status, fields[b"upgrade"], fields[b"connection"]) == (101, b"line/1.0", b"upgrade")
        assert b"content-length" not in fields
        assert await reader.readexactly(10) == b"helloearly"
        writer.write(b"x" * 100_000)
        assert await reader.readexactly(100_000) == b"x" * 100_000
        writer.write_eof()
        assert await reader.read() == b"bye"
        writer.close()
        await becomes(lambda: process.metric("http_server_open_connections"), lambda count: count == 0)
        [line] = await process.access_log(1)
        assert (line["http.request.body.size"], line["http.response.body.size"]) == (100_005, 100_013)


async def test_a_tunnel_in_which_nothing_moves_is_closed() -> None:
    route = {"name": "tunnel", "match": {"path": "/**"}, "timeouts": {"idle_timeout_s": 0.5}}
    async with socket_app(echo) as url, sidecar({"app": {"url": url}, "routes": [route]}) as process:
        reader, writer = await asyncio.open_connection(*process.inbound)
        writer.write(UPGRADE)
        await reader.readuntil(b"hello")
        for _ in range(8):  # twice the time-out, but never silent for so long
            await asyncio.sleep(0.125)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        async with asyncio.timeout(3):
            assert await reader.read() == b""
        writer.close()
        [line] = await process.access_log(1)
        assert line["outrigger.reason"] == "timeout"


async def test_a_tunnel_ends_after_its_longest_duration() -> None:
    timeouts = {"idle_timeout_s": 10, "max_duration_s": 0.7}
    route = {"name": "tunnel", "match": {"path": "/**"}, "timeouts": timeouts}
    async with socket_app(echo) as url, sidecar({"app": {"url": url}, "routes": [route]}) as process:
        reader, writer = await asyncio.open_connection(*process.inbound)
        writer.write(UPGRADE)
        await reader.readuntil(b"hello")
        async with asyncio.timeout(5):
            while True:
                writer.write(b"x")
                if await reader.read(1) == b"":
                    break
                await asyncio.sleep(0.05)
        writer.close()


def flood(connection: socket.socket) -> None:
    """Switches, then sends a lot and counts; reads only when it is told to."""
    read_head(connection)
    connection.sendall(SWITCHED)
    sent[0] = 0
    for _ in range(TOTAL // MIB):
        connection.sendall(bytes(MIB))
        sent[0] += 1
    go.wait(30)
    connection.sendall(b"%10d" % take(connection, TOTAL))


sent = [0]
go = threading.Event()


@pytest.mark.slow
async def test_the_slower_end_sets_the_pace() -> None:
    go.clear()
    with blocking_app(flood) as url:
        async with sidecar({"app": {"url": url}}) as process:
            memory = Memory(process.pid)
            with socket.create_connection(process.inbound, timeout=60) as sock:
                sock.sendall(UPGRADE)
                _, rest = await asyncio.to_thread(read_head, sock)
                await stalls(sent)
                taken = await asyncio.to_thread(take, sock, TOTAL - len(rest))
                assert len(rest) + taken == TOTAL
                ours = [0]

                def send() -> bytes:
                    for _ in range(TOTAL // MIB):
                        sock.sendall(bytes(MIB))
                        ours[0] += 1
                    return sock.recv(100)

                sending = asyncio.get_running_loop().run_in_executor(None, send)
                await stalls(ours)
                go.set()
                assert int(await sending) == TOTAL
            assert memory.grown() < 5


async def stalls(counter: list[int]) -> None:
    """Wait until the sender makes no headway; what it has sent by then is what kernels buffer."""
    before = -1
    async with asyncio.timeout(30):
        while counter[0] != before or not before:
            before = counter[0]
            await asyncio.sleep(0.4)
    assert counter[0] < 64


@pytest.mark.parametrize("offer", ["h2c", "H2C", "h2c, websocket", "h2"])
async def test_http_2_is_never_offered_to_the_application(offer: str) -> None:
    async with raw_app() as app, sidecar({"app": {"url": app.url}}) as process:
        head = f"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: {offer}\r\n"
        answer = await ask(process.inbound, head.encode() + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    [request] = app.received
    assert {name for name, _ in request.fields} & {b"upgrade", b"http2-settings", b"connection"} == set()


async def test_an_upgrade_that_the_application_declines_is_a_request_like_any_other() -> None:
    async with raw_app() as app, sidecar({"app": {"url": app.url}}) as process, client(process.inbound) as connected:
        for _ in range(2):
            connected.writer.write(UPGRADE)
            answer = await connected.read()
            assert (answer.status, answer.body) == (200, b"ok")
        assert (await connected.request()).status == 200
    assert app.received[0].values(b"upgrade") == [b"Line/1.0"]
    assert app.received[2].values(b"upgrade") == []


@pytest.mark.parametrize(
    "answer", [SWITCHED, SWITCHED.replace(b"line/1.0", b"other"), SWITCHED.replace(b"Upgrade: line/1.0\r\n", b"")]
)
async def test_a_switch_that_was_not_asked_for_is_garbage(answer: bytes) -> None:
    async with raw_app(answer) as app, sidecar({"app": {"url": app.url}}) as process:
        data = UPGRADE if answer != SWITCHED else b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        async with client(process.inbound) as connected:
            connected.writer.write(data)
            refused = await connected.read()
            assert (refused.status, refused.code) == (502, "upstream_garbage")
