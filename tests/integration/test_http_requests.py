"""Requests on their way to the application: framing, order, forms of the target, and which fields arrive."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kit.apps import OK, RawApp, Received, ask, raw_app, socket_app, split_answer
from tests.kit.client import Client, client
from tests.kit.sidecar import RunningSidecar, sidecar

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOST = b"Host: shop\r\n"
CLOSE = b"Connection: close\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[RawApp, RunningSidecar]]:
    async with raw_app() as app, sidecar({"app": {"url": app.url}}) as process:
        yield app, process


@pytest.fixture
def app(running: tuple[RawApp, RunningSidecar]) -> RawApp:
    application = running[0]
    application.received.clear()
    application.answer = lambda _: OK
    return application


@pytest.fixture
def inbound(running: tuple[RawApp, RunningSidecar]) -> tuple[str, int]:
    return running[1].inbound


def echo(request: Received) -> bytes:
    """What the application read: method and target, then the body."""
    body = request.line.rpartition(b" ")[0] + b"|" + request.body
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def read_all(connected: Client, count: int) -> list[bytes]:
    async with asyncio.timeout(20):
        return [(await connected.read()).body for _ in range(count)]


async def test_a_connection_is_kept_on_both_sides(app: RawApp, inbound: tuple[str, int]) -> None:
    before = app.connections
    async with client(inbound) as connected:
        for _ in range(20):
            answer = await connected.request("GET", "/a")
            assert (answer.status, answer.body) == (200, b"ok")
            assert "connection" not in answer.fields
    assert app.connections - before <= 1
    assert len(app.received) == 20


PIPELINES = {
    "gets": b"".join(b"GET /%d HTTP/1.1\r\n%b\r\n" % (n, HOST) for n in range(500)),
    "posts": b"".join(b"POST /%d HTTP/1.1\r\n%bContent-Length: 4\r\n\r\n%04d" % (n, HOST, n) for n in range(500)),
    "chunked": b"".join(
        b"POST /%d HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n2\r\n%02d\r\n2;x=y\r\n%02d\r\n0\r\n\r\n"
        % (n, HOST, n // 100, n % 100)
        for n in range(500)
    ),
}


@pytest.mark.parametrize("kind", PIPELINES)
async def test_pipelined_requests_are_answered_in_order(app: RawApp, inbound: tuple[str, int], kind: str) -> None:
    app.answer = echo
    async with client(inbound) as connected:
        connected.writer.write(PIPELINES[kind])
        bodies = await read_all(connected, 500)
    method, body = ("GET", "") if kind == "gets" else ("POST", "%04d")
    assert bodies == [f"{method} /{n}|{body % n if body else ''}".encode() for n in range(500)]


async def test_a_pipeline_may_come_in_any_pieces(app: RawApp, inbound: tuple[str, int]) -> None:
    app.answer = echo
    data = PIPELINES["chunked"][: PIPELINES["chunked"].index(b"POST /20 ")]
    async with client(inbound) as connected:
        for at in range(0, len(data), 7):
            connected.writer.write(data[at : at + 7])
            await asyncio.sleep(0)
        bodies = await read_all(connected, 20)
    assert bodies == [b"POST /%d|%04d" % (n, n) for n in range(20)]


async def test_what_follows_a_chunked_body_in_its_segment_is_the_next_request(
    app: RawApp, inbound: tuple[str, int]
) -> None:
    app.answer = echo
    data = b"POST /a HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" % HOST
    data += b"POST /b HTTP/1.1\r\n%b%bContent-Length: 2\r\n\r\nhi" % (HOST, CLOSE)
    answers = await ask(inbound, data)
    assert answers.count(b"HTTP/1.1 200") == 2
    assert [request.body for request in app.received] == [b"abc", b"hi"]


async def test_a_pipelined_request_waits_while_the_one_before_is_slow(app: RawApp, inbound: tuple[str, int]) -> None:
    gate = asyncio.Event()

    async def answer(request: Received) -> bytes:
        if request.line.startswith(b"GET /slow"):
            await gate.wait()
        return echo(request)

    app.answer = answer
    async with client(inbound) as connected:
        connected.writer.write(b"GET /slow HTTP/1.1\r\n%b\r\nGET /fast HTTP/1.1\r\n%b\r\n" % (HOST, HOST))
        async with client(inbound) as other:
            assert (await other.request("GET", "/other")).body == b"GET /other|"
        assert [request.line.split(b" ")[1] for request in app.received] == [b"/slow", b"/other"]
        gate.set()
        assert await read_all(connected, 2) == [b"GET /slow|", b"GET /fast|"]


async def test_chunks_are_framed_anew_and_extensions_dropped(app: RawApp, inbound: tuple[str, int]) -> None:
    data = b"POST / HTTP/1.1\r\n%b%bTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" % (HOST, CLOSE)
    data += b'3;name="va;lue";other\r\nabc\r\n005\r\ndefgh\r\n0;last\r\nX-Sum: 8\r\n\r\n'
    status, _, _ = split_answer(await ask(inbound, data))
    assert status == 200
    [request] = app.received
    assert request.body == b"abcdefgh"
    assert request.values(b"transfer-encoding") == [b"chunked"]
    assert request.values(b"content-length") == []
    assert request.values(b"trailer") == []


TARGETS: list[tuple[bytes, bytes, bytes]] = [
    (b"GET http://shop/a?b=c HTTP/1.1", b"GET /a?b=c HTTP/1.1", b"shop"),
    (b"GET http://shop HTTP/1.1", b"GET / HTTP/1.1", b"shop"),
    (b"GET HTTP://SHOP/a HTTP/1.1", b"GET /a HTTP/1.1", b"shop"),
    (b"OPTIONS * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"shop"),
    (b"OPTIONS http://shop HTTP/1.1", b"OPTIONS * HTTP/1.1", b"shop"),
    (b"GET /a? HTTP/1.1", b"GET /a HTTP/1.1", b"shop"),
    (b"PROPFIND /a HTTP/1.1", b"PROPFIND /a HTTP/1.1", b"shop"),
]


@pytest.mark.parametrize(("line", "forwarded", "host"), TARGETS)
async def test_forms_of_the_target(
    app: RawApp, inbound: tuple[str, int], line: bytes, forwarded: bytes, host: bytes
) -> None:
    status, _, _ = split_answer(await ask(inbound, line + b"\r\n" + HOST + CLOSE + b"\r\n"))
    assert status == 200
    assert app.received[0].line == forwarded
    assert app.received[0].values(b"host") == [host]


async def test_hop_by_hop_fields_and_ours_never_arrive(app: RawApp, inbound: tuple[str, int]) -> None:
    sent = (
        b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close, X-Mine, keep-alive\r\nX-Mine: 1\r\n"
        b"Keep-Alive: timeout=5\r\nTE: trailers\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n"
        b"Upgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Outrigger-Subject: admin\r\nx-outrigger-roles: root\r\n"
        b"X_Outrigger_Subject: admin\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Kept: yes\r\n\r\n"
    )
    status, _, _ = split_answer(await ask(inbound, sent))
    assert status == 200
    [request] = app.received
    names = {name.replace(b"_", b"-") for name, _ in request.fields}
    assert names & {b"x-mine", b"keep-alive", b"te", b"proxy-connection", b"proxy-authorization"} == set()
    assert names & {b"upgrade", b"http2-settings", b"connection", b"x-outrigger-subject", b"x-outrigger-roles"} == set()
    assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert b"1.2.3.4" not in b"".join(value for _, value in request.fields)
    assert request.values(b"x-kept") == [b"yes"]


async def test_values_arrive_as_they_are(app: RawApp, inbound: tuple[str, int]) -> None:
    sent = b"GET /caf%C3%A9 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nX-Empty:\r\nX-Blank:   \r\n"
    sent += (
        b"X-Latin: caf\xe9\r\nX-Utf8: caf\xc3\xa9 \r\nX-Twice: a\r\nX-Twice: b\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n"
    )
    status, _, _ = split_answer(await ask(inbound, sent))
    assert status == 200
    [request] = app.received
    assert request.line == b"GET /caf%C3%A9 HTTP/1.1"
    assert request.values(b"x-empty") == request.values(b"x-blank") == [b""]
    assert request.values(b"x-latin") == [b"caf\xe9"]
    assert request.values(b"x-utf8") == [b"caf\xc3\xa9"]
    assert b", ".join(request.values(b"x-twice")) == b"a, b"
    assert b"; ".join(request.values(b"cookie")) == b"a=1; b=2"


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nHost: shop\r\nConnection: Keep-Alive, close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n", True),
    ],
)
async def test_who_keeps_the_connection(app: RawApp, inbound: tuple[str, int], head: bytes, kept: bool) -> None:
    async with client(inbound) as connected:
        connected.writer.write(head)
        answer = await connected.read()
        assert answer.body == b"ok"
        if kept:
            assert answer.fields.get("connection") == ("keep-alive" if b"1.0" in head else None)
            assert (await connected.request()).status == 200
        else:
            assert answer.fields["connection"] == "close"
            async with asyncio.timeout(5):
                assert await connected.reader.read() == b""
    assert app.received[0].line == b"GET / HTTP/1.1"
    assert len(app.received[0].values(b"host")) == 1


async def test_expect_goes_to_the_application_which_says_when() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"expect: 100-continue" in head.lower()
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async with socket_app(serve) as url, sidecar({"app": {"url": url}}) as process, client(process.inbound) as one:
        one.writer.write(b"POST / HTTP/1.1\r\n%bExpect: 100-continue\r\nContent-Length: 5\r\n\r\n" % HOST)
        async with asyncio.timeout(5):
            assert await one.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            one.writer.write(b"hello")
            assert (await one.read()).body == b"hello"


@pytest.mark.parametrize("status", [b"417 Expectation Failed", b"401 Unauthorized", b"200 OK"])
async def test_an_expectation_may_be_answered_without_the_body(
    status: bytes,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nno" % status)
        assert await reader.read() == b""  # closed: without its body the connection can't be used again
        writer.close()

    async with socket_app(serve) as url, sidecar({"app": {"url": url}}) as process:
        data = b"POST / HTTP/1.1\r\n%bExpect: 100-continue\r\nContent-Length: 5\r\n\r\n" % HOST
        answer = await ask(process.inbound, data)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.endswith(b"connection: close\r\n\r\nno")
