"""Applications that are gone, hang, talk nonsense or hang up: the client gets a clear problem, or a visible cut."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.kit.apps import Handler, read_request, socket_app
from tests.kit.client import client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def says(data: bytes, then: bytes = b"", *, reset: bool = False) -> Handler:
    """Read one request, send these bytes, a little later those, and close."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(data)
        if then:
            await asyncio.sleep(0.1)
            writer.write(then)
        await writer.drain()
        if reset:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        writer.close()

    return handler


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never reads."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(20)
    writer.close()


PROBLEMS: dict[str, tuple[Handler, int, str, str]] = {
    # name: behaviour, status, code, a word of the log's `why`
    "closes-at-once": (says(b""), 502, "upstream_closed", "closed"),
    "resets": (says(b"", reset=True), 502, "upstream_closed", "reset"),
    "closes-in-head": (says(b"HTTP/1.1 200 OK\r\ncontent-le"), 502, "upstream_closed", "closed"),
    "closes-after-1xx": (says(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), 502, "upstream_closed", "closed"),
    "speaks-ssh": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), 502, "upstream_garbage", "begin"),
    "speaks-http2": (says(b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n"), 502, "upstream_garbage", ""),
    "two-lengths": (
        says(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"), 502, "upstream_garbage", "",
    ),
    "both-framings": (
        says(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        502, "upstream_garbage", "",
    ),
    "endless-head": (says(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20000), 502, "upstream_garbage", "more than"),
    "unasked-101": (
        says(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"), 502, "upstream_garbage", "101",
    ),
    "bad-first-chunk": (says(CHUNKED + b"zz\r\n"), 502, "upstream_garbage", "chunk size"),
    "hangs": (hangs, 504, "timeout", "0.4 s"),
}  # fmt: skip

CUTS: dict[str, tuple[Handler, str]] = {
    "cut-length": (says(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"), "upstream_closed"),
    "cut-chunked": (says(CHUNKED + b"4\r\nhalf\r\n"), "upstream_closed"),
    "cut-in-chunk": (says(CHUNKED + b"40\r\nhalf"), "upstream_closed"),
    "reset-in-body": (says(CHUNKED + b"4\r\nhalf\r\n", reset=True), "upstream_closed"),
    "bad-chunk": (says(CHUNKED + b"4\r\nhalf\r\n", b"zz\r\n"), "upstream_garbage"),
}


def stays_silent(data: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(data)
        await reader.read()
        writer.close()

    return handler


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def full_backlog(stack: AsyncExitStack) -> str:
    """A listener that takes no further connection: SYNs are dropped once its queue is full."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(4):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[RunningSidecar]:
    async with AsyncExitStack() as stack:
        handlers: dict[str, Handler] = {name: row[0] for name, row in PROBLEMS.items()}
        handlers |= {name: row[0] for name, row in CUTS.items()}
        handlers |= {"silent-body": stays_silent(CHUNKED + b"4\r\nhalf\r\n"), "deaf": deaf}
        urls = {name: await stack.enter_async_context(socket_app(handler)) for name, handler in handlers.items()}
        urls |= {"gone": f"http://127.0.0.1:{free_port()}", "full": full_backlog(stack), "no-socket": "unix:/nowhere"}
        times = {"timeout_s": 0.4, "idle_timeout_s": 0.4}
        config = {
            "upstreams": {name: {"targets": [url], "connect_timeout_s": 0.2} for name, url in urls.items()},
            "limits": {"body_timeout_s": 0.5},
            "routes": [
                {"name": name, "match": {"path": f"/{name}/**"}, "upstream": name, "timeouts": times} for name in urls
            ],
        }
        yield await stack.enter_async_context(sidecar(config))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("name", "status", "code", "why"),
    [
        *((name, status, code, why) for name, (_, status, code, why) in PROBLEMS.items()),
        ("gone", 503, "upstream_unreachable", "Connect"),
        ("no-socket", 503, "upstream_unreachable", "No such file"),
        ("full", 504, "connect_timeout", "in time"),
    ],
)
async def test_the_client_gets_a_problem(
    running: RunningSidecar, name: str, status: int, code: str, why: str, method: str
) -> None:
    path = f"/{name}/{method}"
    answer = await fetch(running.inbound, path, method=method, body=b"abc" if method == "POST" else b"")
    assert (answer.status, answer.code, answer.origin) == (status, code, "agent")
    assert answer.fields["content-type"] == "application/problem+json"
    problem = json.loads(answer.body)
    assert (problem["status"], problem["code"]) == (status, code)
    line = await running.line_of(path)
    assert (line["http.response.status_code"], line["outrigger.reason"]) == (status, code)
    assert line["outrigger.origin"] == "agent"
    assert line["level"] == "warning"
    assert why.lower() in str(line["outrigger.why"]).lower()
    assert str(line["outrigger.upstream.address"]).startswith(("http://127.0.0.1:", "unix:"))


@pytest.mark.parametrize("name", PROBLEMS)
async def test_the_connection_survives_a_problem(running: RunningSidecar, name: str) -> None:
    async with client(running.inbound) as one:
        for turn in range(2):
            answer = await one.request("GET", f"/{name}/again{turn}")
            assert answer.code == PROBLEMS[name][2]
            assert not one.closed


@pytest.mark.parametrize(("name", "code"), [*((name, code) for name, (_, code) in CUTS.items())])
async def test_an_answer_that_has_begun_is_visibly_cut(running: RunningSidecar, name: str, code: str) -> None:
    path = f"/{name}/cut"
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await fetch(running.inbound, path)
    line = await running.line_of(path)
    assert (line["http.response.status_code"], line["outrigger.reason"]) == (200, code)
    assert line["outrigger.origin"] == "upstream"
    assert line["outrigger.why"]


async def test_silence_in_the_body_cuts_it_after_the_idle_time(running: RunningSidecar) -> None:
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await fetch(running.inbound, "/silent-body/x")
    line = await running.line_of("/silent-body/x")
    assert line["outrigger.reason"] == "timeout"


async def test_http_1_0_clients_see_a_cut_as_well(running: RunningSidecar) -> None:
    """Their bodies end with the connection: only a reset tells a cut from the end."""
    reader, writer = await asyncio.open_connection(*running.inbound)
    writer.write(b"GET /cut-chunked/old HTTP/1.0\r\nHost: localhost\r\n\r\n")
    try:
        with pytest.raises(ConnectionResetError):
            await reader.read()
    finally:
        writer.close()


async def test_an_application_that_reads_no_body_is_given_up(running: RunningSidecar) -> None:
    answer = await fetch(running.inbound, "/deaf/upload", method="POST", body=bytes(9 * 1024 * 1024))
    assert (answer.status, answer.code) == (504, "timeout")


async def test_failures_are_counted_by_code(running: RunningSidecar) -> None:
    before = await running.metric("outrigger_refusals_total", http_route="/gone/**", code="upstream_unreachable")
    await fetch(running.inbound, "/gone/counted")
    after = await running.metric("outrigger_refusals_total", http_route="/gone/**", code="upstream_unreachable")
    assert after == before + 1
