"""Connections themselves: how many are held, at what price, and over Unix sockets."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile

import pytest

from tests.kit.apps import OK, RawApp, raw_app, split_answer
from tests.kit.client import Client, client
from tests.kit.sidecar import sidecar
from tests.kit.streams import Memory
from tests.kit.until import becomes

IDLERS = 10_000
PROGRAM = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
for number in range(count):
    one = socket.socket()
    one.bind((f"127.0.0.{2 + number % 8}", 0))
    one.connect((host, port))
    one.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    held.append(one)
    if number % 50 == 49:
        for late in held[-50:]:
            assert late.recv(4096).startswith(b"HTTP/1.1 200 ")
print("held", flush=True)
sys.stdin.readline()
alive = 0
for one in held:
    one.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    alive += one.recv(4096).startswith(b"HTTP/1.1 200 ")
print("alive", alive, flush=True)
"""


@pytest.mark.slow
async def test_ten_thousand_idle_connections_are_held() -> None:
    async with raw_app() as app, sidecar({"app": {"url": app.url}, "limits": {"connections": 11_000}}) as process:
        async with client(process.inbound) as connected:
            assert (await connected.request()).status == 200
            memory = Memory(process.pid)
            host, port = process.inbound
            idlers = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROGRAM, host, str(port), str(IDLERS)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert idlers.stdin is not None
            assert idlers.stdout is not None
            async with asyncio.timeout(90):
                assert await idlers.stdout.readline() == b"held\n"
            assert await process.metric("http_server_open_connections") == IDLERS + 1
            print(f"{memory.grown() * 1024 / IDLERS:.1f} KiB a connection")
            assert memory.grown() * 1024 / IDLERS < 16
            for _ in range(20):
                assert (await connected.request(wait_s=2)).body == b"ok"
            idlers.stdin.write(b"\n")
            async with asyncio.timeout(60):
                assert await idlers.stdout.readline() == b"alive %d\n" % IDLERS
                assert await idlers.wait() == 0
        await becomes(lambda: process.metric("http_server_open_connections"), lambda count: count == 0, within_s=30)


async def test_one_connection_too_many_is_refused_and_can_read_why() -> None:
    async with raw_app() as app, sidecar({"app": {"url": app.url}, "limits": {"connections": 3}}) as process:
        async with contextlib.AsyncExitStack() as stack:
            held = [await stack.enter_async_context(client(process.inbound)) for _ in range(3)]
            for one in held:
                assert (await one.request()).status == 200
            for _ in range(20):  # each has sent its request before it is refused: a reset would lose the answer
                reader, writer = await asyncio.open_connection(*process.inbound)
                writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
                status, fields, body = split_answer(await reader.read())
                writer.close()
                assert (status, fields[b"x-outrigger-reason"]) == (503, b"connection_limit")
                assert len(body) == int(fields[b"content-length"])
            for one in held:
                assert (await one.request()).status == 200
            assert await process.metric("outrigger_connections_refused_total") == 20
        await becomes(lambda: process.metric("http_server_open_connections"), lambda count: count == 0)
        async with client(process.inbound) as connected:
            assert (await connected.request()).status == 200
        assert len(app.received) == 7


async def test_a_flood_of_refused_connections_is_bounded() -> None:
    async with (
        raw_app() as app,
        sidecar({"app": {"url": app.url}, "limits": {"connections": 1}}) as process,
        client(process.inbound) as held,
        asyncio.timeout(60),
    ):
        assert (await held.request()).status == 200
        writers = [(await asyncio.open_connection(*process.inbound))[1] for _ in range(600)]
        await becomes(lambda: process.metric("outrigger_connections_refused_total"), lambda count: count == 600)
        assert await process.metric("http_server_open_connections") <= 257
        assert (await held.request(wait_s=2)).status == 200
        for writer in writers:
            writer.close()


async def test_clients_from_outside_leave_the_application_its_way_out() -> None:
    async with raw_app() as app:
        upstreams = {"others": {"targets": [app.url]}}
        config = {"app": {"url": app.url}, "upstreams": upstreams, "limits": {"connections": 2}}
        async with sidecar(config) as process, contextlib.AsyncExitStack() as stack:
            for _ in range(10):
                await stack.enter_async_context(client(process.inbound))
            await becomes(lambda: process.metric("outrigger_connections_refused_total"), lambda count: count == 8)
            one = await stack.enter_async_context(client(process.address("outbound")))
            assert (await one.request(path="/v1/invoke/others/a", headers={"Host": "localhost"})).status == 200


async def test_unix_sockets_on_both_sides() -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = RawApp(lambda _: OK)
        await app.start(path=f"{folder}/app.sock")
        path = f"{folder}/in.sock"
        with socket.socket(socket.AF_UNIX) as stale:  # left by a process that died
            stale.bind(path)
        listen = {"inbound": {"unix": path}, "local": {"port": 0}, "admin": {"port": 0}}
        async with sidecar({"app": {"url": app.url}, "listen": listen}) as process:
            assert process.listening["inbound"] == f"unix:{path}"
            connected = Client(*await asyncio.open_unix_connection(path))
            for size in (0, 100_000):
                assert (await connected.request("POST", "/a", body=bytes(size))).body == b"ok"
            connected.close()
            lines = await process.access_log(2)
            assert lines[0]["client.address"] == "unix"
        await app.stop()
    assert [len(request.body) for request in app.received] == [0, 100_000]
    assert app.received[0].values(b"x-forwarded-for") in ([], [b"unknown"], [b"unix"])
