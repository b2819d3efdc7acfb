"""Slow clients: each wait has a time-out of its own, a cut one can read why, and nobody else notices."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kit.apps import ask, split_answer
from tests.kit.client import client
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.streams import MIB, Memory, blocking_app, read_head, take, take_chunks
from tests.kit.until import becomes

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMITS = {"header_timeout_s": 0.6, "body_timeout_s": 0.6, "write_timeout_s": 1.0, "idle_timeout_s": 1.2}
SIZE = 64 * MIB
SOME = 7 * MIB


def serve(connection: socket.socket) -> None:
    """`/big` answers 64 MiB, `/some` 7 MiB, everything else how large the request's body was."""
    while True:
        head, rest = read_head(connection)
        if head.startswith((b"GET /big", b"GET /some")):
            size = SIZE if head.startswith(b"GET /big") else SOME
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // MIB):
                connection.sendall(bytes(MIB))
            continue
        lower = head.lower()
        length = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0]) if b"content-length" in lower else 0
        size = (
            take_chunks(connection, rest) if b"chunked" in lower else len(rest) + take(connection, length - len(rest))
        )
        body = b"%d" % size
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[RunningSidecar]:
    with blocking_app(serve) as url:
        async with sidecar({"app": {"url": url}, "limits": LIMITS}) as process:
            yield process


async def trickle(address: tuple[str, int], data: bytes, pause_s: float) -> tuple[bytes, float]:
    """Send a byte at a time for as long as that goes; what was answered, and how long it took."""
    reader, writer = await asyncio.open_connection(*address)
    began = time.monotonic()
    answer = asyncio.get_running_loop().create_task(reader.read())
    for at in range(len(data)):
        if answer.done():
            break
        writer.write(data[at : at + 1])
        await asyncio.sleep(pause_s)
    async with asyncio.timeout(10):
        received = await answer
    writer.close()
    return received, time.monotonic() - began


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: shop\r\nX-Long: " + b"a" * 1000, b"GET /"])
async def test_a_slow_head_is_answered_408(running: RunningSidecar, data: bytes) -> None:
    before = await running.metric("outrigger_client_timeouts_total", phase="head")
    received, took = await trickle(running.inbound, data, 0.05)
    status, fields, _ = split_answer(received)
    assert (status, fields[b"x-outrigger-reason"], fields[b"connection"]) == (408, b"request_timeout", b"close")
    assert took > 0.5
    assert await running.metric("outrigger_client_timeouts_total", phase="head") == before + 1


async def test_a_slow_head_after_a_good_request_as_well(running: RunningSidecar) -> None:
    async with client(running.inbound) as connected:
        assert (await connected.request()).status == 200
        await asyncio.sleep(0.8)  # idle for longer than a head may take
        connected.writer.write(b"GET / HT")
        async with asyncio.timeout(5):
            answer = await connected.read()
        assert (answer.status, answer.code) == (408, "request_timeout")


async def test_silence_ends_without_an_answer(running: RunningSidecar) -> None:
    async with asyncio.timeout(5):
        assert await ask(running.inbound, b"") == b""
        async with client(running.inbound) as connected:
            assert (await connected.request()).status == 200
            assert await connected.reader.read() == b""


async def test_a_body_that_stops_is_answered_408(running: RunningSidecar) -> None:
    before = await running.metric("outrigger_client_timeouts_total", phase="body")
    for framing in (b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"):
        answer = await ask(running.inbound, b"POST / HTTP/1.1\r\nHost: a\r\n" + framing)
        status, fields, _ = split_answer(answer)
        assert (status, fields[b"x-outrigger-reason"], fields[b"connection"]) == (408, b"request_timeout", b"close")
    assert await running.metric("outrigger_client_timeouts_total", phase="body") == before + 2
    await becomes(lambda: running.metric("http_server_active_requests"), lambda count: count == 0)


async def test_a_slow_body_that_moves_has_its_time(running: RunningSidecar) -> None:
    reader, writer = await asyncio.open_connection(*running.inbound)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 8\r\n\r\n")
    for _ in range(8):
        await asyncio.sleep(0.3)
        writer.write(b"x")
    assert (await reader.read()).endswith(b"\r\n\r\n8")
    writer.close()


def connect_narrow(address: tuple[str, int]) -> socket.socket:
    """A client whose kernel buffers little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.settimeout(30)
    sock.connect(address)
    return sock


async def test_a_client_that_takes_nothing_is_cut(running: RunningSidecar) -> None:
    before = await running.metric("outrigger_client_timeouts_total", phase="write")
    with connect_narrow(running.inbound) as sock:
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        began = time.monotonic()
        await becomes(
            lambda: running.metric("outrigger_client_timeouts_total", phase="write"), lambda count: count == before + 1
        )
        assert time.monotonic() - began > 0.9
        await becomes(lambda: running.metric("http_server_active_requests"), lambda count: count == 0)
        assert await running.metric("outrigger_upstream_connections", upstream="app") <= 1
    line = (await becomes(lambda: running.access_log(1), lambda lines: lines[-1]["url.path"] == "/big"))[-1]
    assert line["outrigger.reason"] == "client_timeout"


async def test_a_client_that_reads_slowly_has_its_time(running: RunningSidecar) -> None:
    before = await running.metric("outrigger_client_timeouts_total", phase="write")

    def read_slowly() -> int:
        with connect_narrow(running.inbound) as sock:
            sock.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            until, total = time.monotonic() + 4, 0
            while time.monotonic() < until:  # never enough to empty a buffer within the time-out
                total += len(sock.recv(8192))
                time.sleep(0.1)
            return total + take(sock, SIZE // 2)

    assert await asyncio.to_thread(read_slowly) > SIZE // 2
    assert await running.metric("outrigger_client_timeouts_total", phase="write") == before


async def test_a_last_answer_isnt_cut_short_for_a_slow_reader() -> None:
    def read_late(address: tuple[str, int]) -> int:
        with connect_narrow(address) as sock:
            sock.sendall(b"GET /some HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            head, rest = read_head(sock)
            assert b"connection: close" in head.lower()
            time.sleep(3)  # a client that has read everything is waited for 2 s
            return len(rest) + take(sock, SIZE)

    limits = {"write_timeout_s": 10, "buffer_bytes": 8 * MIB}  # the whole answer waits in the sidecar
    with blocking_app(serve) as url:
        async with sidecar({"app": {"url": url}, "limits": limits}) as process:
            assert await asyncio.to_thread(read_late, process.inbound) == SOME


@pytest.mark.slow
async def test_answers_dont_pile_up_for_a_client_that_reads_none() -> None:
    route = {"name": "closed", "match": {"path": "/**"}, "ip": {"deny": ["127.0.0.0/8"]}}
    async with sidecar({"app": {"url": "http://127.0.0.1:9"}, "routes": [route]}) as process:
        memory = Memory(process.pid)
        with connect_narrow(process.inbound) as sock:
            sock.setblocking(False)
            sent_at = time.monotonic()
            async with asyncio.timeout(20):
                while time.monotonic() - sent_at < 0.5:  # until no more is taken
                    try:
                        sock.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 4000)
                        sent_at = time.monotonic()
                    except BlockingIOError:
                        await asyncio.sleep(0.01)
        assert memory.grown() < 6


@pytest.mark.slow
async def test_others_are_served_meanwhile(running: RunningSidecar) -> None:
    slow = [(await asyncio.open_connection(*running.inbound))[1] for _ in range(300)]
    for number, writer in enumerate(slow):
        writer.write((b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na")[number % 2])
    narrow = [connect_narrow(running.inbound) for _ in range(20)]
    for sock in narrow:
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    async with client(running.inbound) as connected:
        for _ in range(100):
            assert (await connected.request(wait_s=2)).body == b"0"
    for writer in slow:
        writer.close()
    for sock in narrow:
        sock.close()
    await becomes(lambda: running.metric("http_server_open_connections"), lambda count: count == 0)
