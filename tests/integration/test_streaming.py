"""Bodies of any size in bounded memory: the slower side sets the pace, and nothing is held back."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.kit.apps import socket_app
from tests.kit.client import client
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.streams import CHUNK, MIB, Memory, blocking_app, read_head, take, take_chunks
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
GIB = 1 << 30
TOTAL = 256 * MIB
_moved = {"app": 0, "size": 0}
_go = threading.Event()


def serve(connection: socket.socket) -> None:
    """`/up`: read the body and say its size. `/down`, `/chunks`: send a GiB. `/slow`: read only when told to."""
    while True:
        head, rest = read_head(connection)
        path = head.split(b" ")[1]
        if path == b"/down":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
            _send(connection, bytes(MIB), GIB // MIB)
            continue
        if path == b"/chunks":
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            _send(connection, CHUNK, GIB // MIB)
            connection.sendall(b"0\r\n\r\n")
            continue
        if path == b"/slow":
            _go.wait(30)
        if b"chunked" in head.lower():
            size = take_chunks(connection, rest)
        else:
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            size = len(rest) + take(connection, length - len(rest))
        body = b"%d" % size
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def _send(connection: socket.socket, piece: bytes, times: int) -> None:
    _moved["app"] = 0
    for _ in range(times):
        connection.sendall(piece)
        _moved["app"] += 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[RunningSidecar]:
    with blocking_app(serve) as url:
        async with sidecar({"app": {"url": url}, "limits": {"body_bytes": 0}}) as process:
            async with client(process.inbound) as connected:  # what the first request makes isn't growth
                assert (await connected.request("POST", "/up", body=bytes(100_000))).body == b"100000"
            yield process


def upload(address: tuple[str, int], *, chunked: bool) -> int:
    with socket.create_connection(address, timeout=60) as sock:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % GIB
        sock.sendall(b"POST /up HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)
        piece = CHUNK if chunked else bytes(MIB)
        for _ in range(GIB // MIB):
            sock.sendall(piece)
        if chunked:
            sock.sendall(b"0\r\n\r\n")
        head, rest = read_head(sock)
        assert head.startswith(b"HTTP/1.1 200 ")
        return int(rest or sock.recv(100))


def download(address: tuple[str, int], *, chunked: bool) -> int:
    with socket.create_connection(address, timeout=60) as sock:
        sock.sendall(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"chunks" if chunked else b"down"))
        head, rest = read_head(sock)
        assert head.startswith(b"HTTP/1.1 200 ")
        return take_chunks(sock, rest) if chunked else len(rest) + take(sock, GIB - len(rest))


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("direction", [upload, download])
async def test_a_gibibyte_passes_in_bounded_memory(
    running: RunningSidecar, direction: Callable[..., int], chunked: bool
) -> None:
    memory = Memory(running.pid)
    began = time.monotonic()
    assert await asyncio.to_thread(direction, running.inbound, chunked=chunked) == GIB
    print(f"{'chunked' if chunked else 'fixed'}: {memory.grown():.1f} MiB, {time.monotonic() - began:.1f} s")
    assert memory.grown() < 20


async def settled(read: Callable[[], int]) -> int:
    """The value once it stands still."""
    value, since = read(), time.monotonic()
    async with asyncio.timeout(30):
        while time.monotonic() - since < 0.5:
            await asyncio.sleep(0.02)
            if read() != value:
                value, since = read(), time.monotonic()
    return value


async def test_a_client_that_doesnt_read_stops_the_application(running: RunningSidecar) -> None:
    memory = Memory(running.pid)
    with socket.create_connection(running.inbound, timeout=60) as sock:
        sock.sendall(b"GET /down HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: _moved["app"] > 0)
        assert await settled(lambda: _moved["app"]) < 64  # MiB: what the kernel's buffers take
        assert memory.grown() < 5
        head, rest = await asyncio.to_thread(read_head, sock)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert len(rest) + await asyncio.to_thread(take, sock, TOTAL - len(rest)) == TOTAL


async def test_an_application_that_doesnt_read_stops_the_client(running: RunningSidecar) -> None:
    _go.clear()
    memory = Memory(running.pid)
    sent = [0]

    def send(sock: socket.socket) -> bytes:
        sock.sendall(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % TOTAL)
        for _ in range(TOTAL // MIB):
            sock.sendall(bytes(MIB))
            sent[0] += 1
        return read_head(sock)[1] or sock.recv(100)

    with socket.create_connection(running.inbound, timeout=60) as sock:
        sending = asyncio.get_running_loop().run_in_executor(None, send, sock)
        await until(lambda: sent[0] > 0)
        assert await settled(lambda: sent[0]) < 64
        assert memory.grown() < 5
        _go.set()
        assert await sending == b"%d" % TOTAL


async def test_events_arrive_one_by_one_and_are_not_cut_by_the_time_out() -> None:
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while event := await asked.get():
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    route = {"name": "events", "match": {"path": "/**"}, "timeout_s": 0.3}
    async with socket_app(events) as url, sidecar({"app": {"url": url}, "routes": [route]}) as process:
        async with client(process.inbound) as connected, asyncio.timeout(20):
            connected.writer.write(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
            await connected.reader.readuntil(b"\r\n\r\n")  # the head comes before the first event
            began = time.monotonic()
            count = 0
            while time.monotonic() - began < 1.0:
                event = b"data: %d\n\n" % count
                asked.put_nowait(event)  # the next one is sent only when this one has arrived
                framed = await connected.reader.readexactly(len(event) + 5)
                assert framed == b"%x\r\n%b\r\n" % (len(event), event)
                count += 1
                await asyncio.sleep(0.05)
            asked.put_nowait(b"")
            assert await connected.reader.readexactly(5) == b"0\r\n\r\n"
        [line] = await process.access_log(1)
        assert (line["http.response.status_code"], line.get("outrigger.reason")) == (200, None)


@pytest.mark.parametrize(
    ("limits", "cut"),
    [({"idle_timeout_s": 0.3}, True), ({"idle_timeout_s": 0.9}, False), ({"max_duration_s": 0.9}, True)],
)
async def test_silence_and_the_longest_duration_end_a_stream(limits: dict[str, float], cut: bool) -> None:
    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.5)
        writer.write(b"0\r\n\r\n")
        writer.close()

    route = {"name": "events", "match": {"path": "/**"}, "timeouts": {"timeout_s": 0.3, **limits}}
    async with socket_app(stream) as url, sidecar({"app": {"url": url}, "routes": [route]}) as process:
        async with client(process.inbound) as connected:
            if cut:
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await connected.request()
            else:
                assert (await connected.request()).body == b"xxx"
        [line] = await process.access_log(1)
        assert line.get("outrigger.reason") == ("timeout" if cut else None)
