"""Refused requests: the answer can always be read, and the connection is kept where the rest of the body is short."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kit.apps import RawApp, ask, raw_app, socket_app, split_answer
from tests.kit.client import client
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.tokens import ISSUER, SECRET

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMIT = 1_000_000
CONFIG = {
    "issuers": {"main": {"issuer": ISSUER, "audiences": ["orders"], "algorithms": ["HS256"], "secret": SECRET}},
    "routes": [
        {"name": "open", "match": {"path": "/open/**"}, "auth": "none"},
        {"name": "wide", "match": {"path": "/wide"}, "auth": "none", "body_bytes": 0},
        {"name": "narrow", "match": {"path": "/narrow"}, "auth": "none", "body_bytes": 10},
    ],
    "limits": {"body_bytes": LIMIT},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[RawApp, RunningSidecar]]:
    async with raw_app() as app, sidecar({"app": {"url": app.url}, **CONFIG}) as process:
        yield app, process


@pytest.fixture
def app(running: tuple[RawApp, RunningSidecar]) -> RawApp:
    running[0].received.clear()
    return running[0]


@pytest.fixture
def inbound(running: tuple[RawApp, RunningSidecar]) -> tuple[str, int]:
    return running[1].inbound


def stubborn_upload(address: tuple[str, int], head: bytes, size: int, *, chunked: bool = False) -> bytes:
    """A client that sends all of its body before it reads a byte, as many do; what it read in the end.

    Raises ConnectionResetError where the answer was lost.
    """
    piece = b"100000\r\n%b\r\n" % bytes(1 << 20) if chunked else bytes(1 << 20)
    with socket.create_connection(address, timeout=20) as sock:
        try:
            sock.sendall(head)
            for _ in range(size >> 20):
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        data = b""
        while received := sock.recv(65536):
            data += received
        return data


@pytest.mark.parametrize("late", [False, True])
async def test_a_short_refused_body_keeps_the_connection(app: RawApp, inbound: tuple[str, int], late: bool) -> None:
    async with client(inbound) as connected:
        connected.writer.write(b"POST /x HTTP/1.1\r\nHost: shop\r\nContent-Length: 30000\r\n\r\n")
        if late:
            refused = await connected.read()
            for _ in range(30):
                connected.writer.write(bytes(1000))
                await asyncio.sleep(0)
        else:
            connected.writer.write(bytes(30000))
            refused = await connected.read()
        assert (refused.status, refused.code) == (401, "token_missing")
        assert "connection" not in refused.fields
        assert (await connected.request("GET", "/open/a")).status == 200
    assert [request.line for request in app.received] == [b"GET /open/a HTTP/1.1"]


@pytest.mark.parametrize("framing", ["Content-Length: 70000", "Transfer-Encoding: chunked", "Expect: 100-continue"])
async def test_a_long_refused_body_ends_the_connection(inbound: tuple[str, int], framing: str) -> None:
    more = "Content-Length: 5\r\n" if framing.startswith("Expect") else ""
    answer = await ask(inbound, f"POST /x HTTP/1.1\r\nHost: shop\r\n{more}{framing}\r\n\r\n".encode())
    status, fields, body = split_answer(answer)
    assert (status, fields[b"connection"]) == (401, b"close")
    assert json.loads(body)["code"] == "token_missing"
    assert len(body) == int(fields[b"content-length"])


@pytest.mark.parametrize(
    ("head", "chunked", "code"),
    [
        (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 52428800\r\n\r\n", False, "token_missing"),
        (b"POST /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 52428800\r\n\r\n", False, "body_too_large"),
        (b"POST /open/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", True, "body_too_large"),
        (b"GE\x00T /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 52428800\r\n\r\n", False, "malformed_request"),
    ],
)
async def test_the_answer_can_be_read_though_the_client_sends_on(
    inbound: tuple[str, int], head: bytes, chunked: bool, code: str
) -> None:
    answer = await asyncio.to_thread(stubborn_upload, inbound, head, 50 << 20, chunked=chunked)
    status, fields, body = split_answer(answer)
    assert fields[b"x-outrigger-reason"] == code.encode()
    assert (status, fields[b"connection"]) == (json.loads(body)["status"], b"close")


async def test_a_chunked_body_is_refused_in_the_middle_and_the_application_is_told(inbound: tuple[str, int]) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        ended.set()
        writer.close()

    async with socket_app(serve) as url, sidecar({"app": {"url": url}, **CONFIG}) as process:
        async with client(process.inbound) as connected:
            connected.writer.write(b"POST /open/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            connected.writer.write(b"7a120\r\n%b\r\n" % bytes(500_000) * 2)  # exactly the limit
            await asyncio.sleep(0.05)
            connected.writer.write(b"1\r\nx\r\n")
            refused = await connected.read()
        assert (refused.status, refused.code, refused.fields["connection"]) == (413, "body_too_large", "close")
        async with asyncio.timeout(5):
            await ended.wait()
        [line] = await process.access_log(1)
        assert line["outrigger.reason"] == "body_too_large"


async def test_a_routes_own_limit_counts(app: RawApp, inbound: tuple[str, int]) -> None:
    async with client(inbound) as connected:
        assert (await connected.request("POST", "/narrow", body=bytes(10))).status == 200
        assert (await connected.request("POST", "/narrow", body=bytes(10), chunked=True)).status == 200
        assert (await connected.request("POST", "/narrow", body=bytes(11))).code == "body_too_large"
        assert (await connected.request("POST", "/wide", body=bytes(LIMIT * 2))).status == 200
        assert (await connected.request("POST", "/narrow", body=bytes(11), chunked=True)).code == "body_too_large"
        assert connected.closed
    assert [len(request.body) for request in app.received] == [10, 10, LIMIT * 2]


async def test_a_refused_request_keeps_its_place_in_the_pipeline(app: RawApp, inbound: tuple[str, int]) -> None:
    requests = [b"GET /open/1", b"POST /x", b"GET /open/2", b"GET /y", b"POST /z", b"GET /open/3"]
    data = b"".join(
        line + b" HTTP/1.1\r\nHost: a\r\n" + (b"Content-Length: 3\r\n\r\nabc" if b"POST" in line else b"\r\n")
        for line in requests
    )
    async with client(inbound) as connected:
        connected.writer.write(data * 20)
        statuses = [(await connected.read()).status for _ in range(120)]
    assert statuses == [200, 401, 200, 401, 401, 200] * 20
    assert len(app.received) == 60


async def test_what_is_no_request_ends_a_pipeline_after_the_answers_before_it(
    app: RawApp, inbound: tuple[str, int]
) -> None:
    good = b"GET /open/1 HTTP/1.1\r\nHost: a\r\n\r\n"
    answers = await ask(inbound, good + b"GARBAGE\r\n\r\n" + good)
    assert answers.index(b"HTTP/1.1 200") < answers.index(b"HTTP/1.1 400")
    assert answers.count(b"HTTP/1.1 ") == 2
    assert len(app.received) == 1


async def test_an_early_answer_of_the_application_reaches_a_client_that_still_sends() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big")
        await writer.drain()
        writer.close()

    async with socket_app(serve) as url, sidecar({"app": {"url": url}, "limits": {"body_bytes": 0}}) as process:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 52428800\r\n\r\n"
        for _ in range(20):  # our writes fail at some moment between its answer and its end
            answer = await asyncio.to_thread(stubborn_upload, process.inbound, head, 50 << 20)
            status, fields, body = split_answer(answer)
            assert (status, body, fields[b"x-outrigger-origin"]) == (413, b"too big", b"app")


@pytest.mark.slow
async def test_a_client_that_never_stops_is_cut_in_the_end(inbound: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*inbound)
    writer.write(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 52428800\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 30:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.1)
    writer.close()
    assert 5 < time.monotonic() - began < 20
