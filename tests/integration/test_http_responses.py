"""Answers on their way back: framing, interim answers, bodiless ones, and what the client never sees."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio

from tests.kit.apps import OK, RawApp, ask, raw_app, socket_app, split_answer
from tests.kit.client import client
from tests.kit.sidecar import RunningSidecar, sidecar

pytestmark = pytest.mark.asyncio(loop_scope="module")
GET = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"


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


async def test_chunks_are_framed_anew(app: RawApp, inbound: tuple[str, int]) -> None:
    app.answer = lambda _: CHUNKED
    _, fields, body = split_answer(await ask(inbound, GET))
    assert fields[b"transfer-encoding"] == b"chunked"
    assert b"content-length" not in fields
    assert b"ext" not in body
    assert b"X-Sum" not in body
    assert body == b"5\r\nabcde\r\n0\r\n\r\n"


async def test_http_1_0_clients_get_no_chunks_and_the_end_is_the_end(app: RawApp, inbound: tuple[str, int]) -> None:
    app.answer = lambda _: CHUNKED
    _, fields, body = split_answer(await ask(inbound, OLD))
    assert b"transfer-encoding" not in fields
    assert fields[b"connection"] == b"close"
    assert body == b"abcde"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_that_ends_with_the_connection(version: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/%b 200 OK\r\nX-A: 1\r\n\r\nabc" % version)
        await writer.drain()
        writer.write(b"de")
        writer.close()

    async with socket_app(answer) as url, sidecar({"app": {"url": url}}) as process:
        async with client(process.inbound) as connected:
            reply = await connected.request()
            assert (reply.status, reply.body) == (200, b"abcde")
            assert reply.fields["transfer-encoding"] == "chunked"
            assert (await connected.request()).body == b"abcde"
        _, fields, body = split_answer(await ask(process.inbound, OLD))
        assert (fields[b"connection"], body) == (b"close", b"abcde")


BODILESS = [
    (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"1000"),
    (HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    (HEAD, b"HTTP/1.1 200 OK\r\n\r\n", None),
    (GET, b"HTTP/1.1 204 No Content\r\n\r\n", None),
    (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
    (GET, b'HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: "a"\r\n\r\n', b"1000"),
    (GET, b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"0"),
]


@pytest.mark.parametrize(("request_data", "answer", "length"), BODILESS)
async def test_answers_without_a_body(
    app: RawApp, inbound: tuple[str, int], request_data: bytes, answer: bytes, length: bytes | None
) -> None:
    app.answer = lambda _: answer
    kept = request_data.replace(b"Connection: close\r\n", b"")
    # Two on one connection: a length that promises a body which never comes would swallow the second.
    status, fields, rest = split_answer(await ask(inbound, kept + request_data))
    assert status == int(answer.split(b" ")[1])
    assert fields.get(b"content-length") == length
    assert b"transfer-encoding" not in fields or request_data.startswith(b"HEAD")
    assert rest.startswith(b"HTTP/1.1 %d" % status)
    assert rest.endswith(b"\r\n\r\n")


async def test_interim_answers_are_passed_on(app: RawApp, inbound: tuple[str, int]) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX-Outrigger-Origin: me\r\n\r\n"
    app.answer = lambda _: hints + b"HTTP/1.1 102 Processing\r\n\r\n" + OK
    data = await ask(inbound, GET)
    assert data.startswith(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n"
    )
    assert data.endswith(b"\r\n\r\nok")
    assert (await ask(inbound, OLD.replace(b"keep-alive", b"close"))).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_hop_by_hop_fields_and_ours_never_reach_the_client(app: RawApp, inbound: tuple[str, int]) -> None:
    app.answer = lambda _: (
        b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTrailer: X-Sum\r\n"
        b"X-Outrigger-Origin: agent\r\n"
        b"x-outrigger-reason: token_missing\r\nX-Kept:\r\nX-Latin: caf\xe9\r\nServer: app\r\n\r\nok"
    )
    answer = await ask(inbound, GET)
    status, fields, body = split_answer(answer)
    assert (status, body) == (200, b"ok")
    assert set(fields) == {
        b"content-length", b"x-kept", b"x-latin", b"server", b"date", b"x-outrigger-origin", b"connection",
    }  # fmt: skip
    assert fields[b"x-outrigger-origin"] == b"app"
    assert answer.lower().count(b"x-outrigger-origin") == 1
    assert (fields[b"x-kept"], fields[b"x-latin"], fields[b"connection"]) == (b"", b"caf\xe9", b"close")


async def test_cookies_stay_apart_and_in_order(app: RawApp, inbound: tuple[str, int]) -> None:
    app.answer = lambda _: (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Expires=Wed, 21 Oct 2037 07:28:00 GMT\r\nVary: Accept\r\n"
        b"set-cookie: b=2\r\nVary: Origin\r\nContent-Length: 0\r\n\r\n"
    )
    lines = (await ask(inbound, GET)).split(b"\r\n")
    cookies = [line.partition(b": ")[2] for line in lines if line.lower().startswith(b"set-cookie:")]
    assert cookies == [b"a=1; Expires=Wed, 21 Oct 2037 07:28:00 GMT", b"b=2"]
    assert [line for line in lines if line.startswith(b"Vary")] == [b"Vary: Accept", b"Vary: Origin"]


async def test_a_date_is_added_only_where_there_is_none(app: RawApp, inbound: tuple[str, int]) -> None:
    _, fields, _ = split_answer(await ask(inbound, GET))
    assert fields[b"date"].endswith(b" GMT")
    app.answer = lambda _: b"HTTP/1.1 200 OK\r\nDate: Tue, 01 Jan 2030 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
    data = await ask(inbound, GET)
    assert data.lower().count(b"\r\ndate:") == 1
    assert b"Tue, 01 Jan 2030" in data


@pytest.mark.parametrize(
    "answer", [OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), OK.replace(b"1.1", b"1.0")]
)
async def test_an_application_that_closes_costs_the_client_nothing(
    app: RawApp, inbound: tuple[str, int], answer: bytes
) -> None:
    app.answer = lambda _: answer
    before = app.connections
    async with client(inbound) as connected:
        for _ in range(3):
            reply = await connected.request()
            assert (reply.status, reply.body) == (200, b"ok")
            assert "connection" not in reply.fields
    assert app.connections - before >= 2


@pytest.mark.parametrize(
    "garbage", [OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", OK + b"\r\n", CHUNKED + b"x", HEAD]
)
async def test_a_connection_with_bytes_after_its_answer_is_not_used_again(
    app: RawApp, inbound: tuple[str, int], garbage: bytes
) -> None:
    if garbage == HEAD:  # an answer to HEAD with the body that it must not have
        garbage, method = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HEAD"
    else:
        method = "GET"
    app.answer = lambda _: garbage
    before = app.connections
    async with client(inbound) as connected:
        for _ in range(3):
            reply = await connected.request(method)
            assert (reply.status, reply.body) in ((200, b"ok"), (200, b"abcde"), (200, b""))
    assert app.connections - before >= 2


async def test_a_body_that_ends_early_is_no_complete_answer() -> None:
    for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", CHUNKED[:-10]):
        async with socket_closing_app(answer) as url, sidecar({"app": {"url": url}}) as process:
            async with client(process.inbound) as connected:
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await connected.request()
            with pytest.raises(ConnectionResetError):  # in HTTP/1.0 a plain end would look like a complete body
                await ask(process.inbound, OLD)
            [line, _] = await process.access_log(2)
            assert line["outrigger.reason"] == "upstream_closed"


def socket_closing_app(answer: bytes) -> AbstractAsyncContextManager[str]:
    """Sends the answer and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()

    return socket_app(serve)


@pytest.mark.parametrize("in_one_piece", [True, False])
@pytest.mark.parametrize("policy", ["drop", "forward"])
async def test_trailers_go_on_where_the_configuration_says_so(policy: str, in_one_piece: bool) -> None:
    seen = bytearray()
    trailers = b"X-Sum: 5\r\nX-Outrigger-Reason: me\r\nX_Outrigger_Subject: admin\r\nX-Forwarded-For: 1.2.3.4\r\n"
    body = b"5\r\nabcde\r\n0\r\n" + trailers + b"\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        seen.extend(await reader.readuntil(b"\r\n0\r\n"))
        while not seen.endswith(b"\r\n\r\n"):
            seen.extend(await reader.readuntil(b"\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if not in_one_piece:
            await asyncio.sleep(0.05)
        writer.write(body)
        await writer.drain()
        writer.close()

    config = {"limits": {"trailers": policy}}
    async with socket_app(serve) as url, sidecar({"app": {"url": url}, **config}) as process:
        head = GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = await ask(process.inbound, head + body)
    kept = b"0\r\nX-Sum: 5\r\n" if policy == "forward" else b"0\r\n"
    assert bytes(seen).endswith(b"abcde\r\n" + kept + b"\r\n")
    # Downwards only our own names are dropped: what a client makes of forwarding fields is no matter of trust.
    back = kept + b"X-Forwarded-For: 1.2.3.4\r\n" if policy == "forward" else kept
    assert answer.endswith(b"abcde\r\n" + back + b"\r\n")
