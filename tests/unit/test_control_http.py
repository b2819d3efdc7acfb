"""The control server: strict, bounded, and useless to web pages of other sites."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agent.drivers.control_http import ControlServer, Gate
from agent.drivers.control_messages import ProblemError, Request, Response, json_response
from agent.drivers.control_parser import Limits

Reply = tuple[int, dict[str, str], bytes]


LOOPS = ("asyncio", "uvloop")


class Site:
    """A server with a few endpoints, and the means to talk to it in bytes."""

    def __init__(self, *, limits: Limits | None = None, gate: Gate | None = None) -> None:
        self.errors: list[str] = []
        self.release = asyncio.Event()
        self.entered = asyncio.Event()
        self.seen: list[Request] = []
        self.server = ControlServer(
            {
                ("GET", "/hello"): self.hello,
                ("GET", "/slow"): self.slow,
                ("GET", "/big"): self.big,
                ("GET", "/broken"): self.broken,
                ("GET", "/teapot"): self.refuse,
                ("POST", "/echo"): self.echo,
                ("PUT", "/echo"): self.echo,
                ("DELETE", "/echo"): self.hello,
            },
            name="test",
            gate=gate or Gate(),
            log_error=lambda sentence, error: self.errors.append(f"{sentence}: {error!r}"),
            limits=limits or Limits(),
        )
        self.port = 0

    async def hello(self, request: Request) -> Response:
        self.seen.append(request)
        return Response(b"hello")

    async def slow(self, request: Request) -> Response:
        self.entered.set()
        await self.release.wait()
        return Response(b"slow")

    async def big(self, request: Request) -> Response:
        return Response(b"x" * 32_000_000)

    async def broken(self, request: Request) -> Response:
        raise ZeroDivisionError("secret")

    async def refuse(self, request: Request) -> Response:
        raise ProblemError("bad_body", "no tea")

    async def echo(self, request: Request) -> Response:
        return json_response(request.json_object())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def talk(self, data: bytes) -> bytes:
        """Everything the server says until it closes."""
        reader, writer = await self.connect()
        writer.write(data)
        said = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return said


MakeSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def make_site() -> AsyncIterator[MakeSite]:
    sites = []

    async def make(**options: Any) -> Site:
        site = Site(**options)
        bound = socket.create_server(("127.0.0.1", 0))
        site.port = bound.getsockname()[1]
        await site.server.start(bound)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.release.set()
        await site.server.close(1)


async def read_reply(reader: asyncio.StreamReader, *, head_only: bool = False) -> Reply:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
    status_line, *lines = head.strip().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    body = b"" if head_only else await reader.readexactly(int(fields["content-length"]))
    return int(status_line.split()[1]), fields, body


def only_reply(said: bytes) -> Reply:
    head, _, body = said.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    return int(status_line.split()[1]), dict(line.split(": ", 1) for line in lines), body


def request(text: str, *, host: str = "localhost", body: str = "", fields: str = "") -> bytes:
    length = f"content-length: {len(body)}\r\n" if body else ""
    return f"{text} HTTP/1.1\r\nhost: {host}\r\n{fields}{length}connection: close\r\n\r\n{body}".encode()


JSON = "content-type: application/json\r\n"


async def test_keep_alive_and_head(make_site: MakeSite) -> None:
    site = await make_site()
    reader, writer = await site.connect()
    for _ in range(3):
        writer.write(b"GET /hello?a=1&b= HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Thing:  v \r\n\r\n")
        status, fields, body = await read_reply(reader)
        assert (status, body) == (200, b"hello")
        assert fields["x-outrigger-origin"] == "agent"
        assert "connection" not in fields
    assert site.seen[0].arguments() == {"a": "1", "b": ""}
    assert site.seen[0].fields["x-thing"] == "v"
    writer.write(b"HEAD /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (await read_reply(reader, head_only=True))[1]["content-length"] == "5"
    assert (await read_reply(reader))[2] == b"hello"
    writer.close()


async def test_pipelined_requests_are_answered_in_order(make_site: MakeSite) -> None:
    site = await make_site()
    reader, writer = await site.connect()
    writer.write(b"GET /slow HTTP/1.1\r\nHost: a.localhost\r\n\r\n".replace(b"a.localhost", b"localhost"))
    await site.entered.wait()
    writer.write(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\nGET /none HTTP/1.1\r\nHost: localhost\r\n\r\nGET \x01")
    site.release.set()
    assert [(await read_reply(reader))[0] for _ in range(4)] == [200, 200, 404, 400]
    assert await reader.read() == b""
    writer.close()


async def test_any_chunking_means_the_same(make_site: MakeSite) -> None:
    site = await make_site()
    data = request("POST /echo", fields=JSON, body='{"a": [1, 2]}')
    reader, writer = await site.connect()
    for byte in data:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert json.loads((await read_reply(reader))[2]) == {"a": [1, 2]}
    writer.close()


L = b" HTTP/1.1\r\nhost: localhost\r\n"
END = b"\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked"
MALFORMED = (400, "malformed_request")
UPGRADE = request("POST /echo", fields="upgrade: h2c\r\n", body="{}").replace(b"close", b"upgrade")
SITE = "sec-fetch-site: cross-site\r\n"
TABLE: list[tuple[str, bytes, int, str]] = [
    ("not found", request("GET /nothing"), 404, "not_found"),
    ("wrong method", request("POST /hello", fields=JSON, body="{}"), 405, "method_not_allowed"),
    ("options", request("OPTIONS /hello"), 405, "method_not_allowed"),
    ("unknown method", b"BREW /hello" + L + END[2:], *MALFORMED),
    ("trace", request("TRACE /hello"), 405, "method_not_supported"),
    ("connect", b"CONNECT localhost:1" + L + END[2:], 405, "method_not_supported"),
    ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", *MALFORMED),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", *MALFORMED),
    ("HTTP/2.0 version", b"GET /hello HTTP/2.0\r\nhost: localhost\r\n\r\n", *MALFORMED),
    ("HTTP/0.9 version", b"GET /hello HTTP/0.9\r\nhost: localhost\r\n\r\n", *MALFORMED),
    ("no host", b"GET /hello HTTP/1.1\r\n\r\n", 400, "bad_host"),
    ("two hosts", b"GET /hello" + L + b"host: localhost" + END, 400, "bad_host"),
    ("absolute form", b"GET http://localhost/hello" + L + END[2:], *MALFORMED),
    ("both framings", b"POST /echo" + L + b"content-length: 5\r\n" + CHUNKED + END + b"0" + END, *MALFORMED),
    ("two lengths", b"POST /echo" + L + b"content-length: 0\r\ncontent-length: 0" + END, *MALFORMED),
    ("signed length", b"POST /echo" + L + b"content-length: +1" + END + b"a", *MALFORMED),
    ("gzip, chunked", b"POST /echo" + L + b"transfer-encoding: gzip, chunked" + END + b"0" + END, *MALFORMED),
    ("chunked in 1.0", b"POST /echo HTTP/1.0\r\n" + CHUNKED + END + b"0" + END, *MALFORMED),
    ("trailers", b"POST /echo" + L + CHUNKED + END + b"0\r\na: b" + END, *MALFORMED),
    ("bare LF", b"GET /hello HTTP/1.1\nhost: localhost\n\n", *MALFORMED),
    ("folded line", b"GET /hello" + L + b"a: b\r\n c" + END, *MALFORMED),
    ("space before colon", b"GET /hello HTTP/1.1\r\nhost : localhost" + END, *MALFORMED),
    ("NUL", b"GET /hello" + L + b"a: \x00" + END, *MALFORMED),
    ("upgrade with body", UPGRADE, *MALFORMED),
    ("announced too large", request("POST /echo", fields="content-length: 1048577\r\n"), 413, "body_too_large"),
    ("two authorizations", request("GET /hello", fields="authorization: a\r\nauthorization: b\r\n"), *MALFORMED),
    ("refused by the handler", request("GET /teapot"), 400, "bad_body"),
    ("body no JSON", request("POST /echo", fields=JSON, body="{"), 400, "bad_body"),
    ("body no object", request("POST /echo", fields=JSON, body="[]"), 400, "bad_body"),
    ("body bottomless", request("POST /echo", fields=JSON, body="[" * 500_000), 400, "bad_body"),
    ("body no UTF-8", request("POST /echo", fields=JSON, body="xx").replace(b"xx", b"\xff\xfe"), 400, "bad_body"),
    ("form post", request("POST /echo", fields="content-type: text/plain\r\n", body="{}"), 415, "not_json"),
    ("no content type", request("POST /echo", body="{}"), 415, "not_json"),
    ("cross-site post", request("POST /echo", fields=JSON + SITE, body="{}"), 403, "cross_site"),
    ("cross-site delete", request("DELETE /echo", fields=SITE), 403, "cross_site"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status", "code"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
async def test_refused(make_site: MakeSite, data: bytes, status: int, code: str) -> None:
    site = await make_site()
    got, fields, body = only_reply(await site.talk(data))
    assert (got, fields["x-outrigger-reason"]) == (status, code)
    assert fields["content-type"] == "application/problem+json"
    assert fields["connection"] == "close"
    assert len(body) == int(fields["content-length"])
    document = json.loads(body)
    assert (document["status"], document["code"]) == (status, code)
    assert site.seen == []


async def test_method_not_allowed_names_the_methods(make_site: MakeSite) -> None:
    site = await make_site()
    assert only_reply(await site.talk(request("DELETE /hello")))[1]["allow"] == "GET, HEAD"
    assert only_reply(await site.talk(request("GET /echo")))[1]["allow"] == "DELETE, POST, PUT"


@pytest.mark.parametrize(
    "fields", [JSON, "content-type: Application/JSON; charset=utf-8\r\nsec-fetch-site: same-origin\r\n"]
)
async def test_changes_from_here_are_allowed(make_site: MakeSite, fields: str) -> None:
    site = await make_site()
    assert only_reply(await site.talk(request("PUT /echo", fields=fields, body='{"a":1}')))[0] == 200
    assert only_reply(await site.talk(request("DELETE /echo")))[0] == 200


async def test_chunked_body(make_site: MakeSite) -> None:
    site = await make_site()
    head = b"POST /echo" + L + b"connection: close\r\ncontent-type: application/json\r\n" + CHUNKED + END
    data = head + b'3;ext=1\r\n{"a\r\n4\r\n": 1\r\n1\r\n}\r\n0\r\n\r\n'
    status, _, body = only_reply(await site.talk(data))
    assert (status, json.loads(body)) == (200, {"a": 1})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:4501", 200),
        ("[::1]:4501", 200),
        ("10.1.2.3", 200),
        ("LOCALHOST:4501", 200),
        ("localhost.", 200),
        ("sidecar.internal", 200),
        ("attacker.example", 403),
        ("attacker.example:4501", 403),
        ("localhost.attacker.example", 403),
        ("127.0.0.1.attacker.example", 403),
        ("localhost:80@attacker.example", 403),
        ("", 403),
    ],
)
async def test_host_against_rebinding(make_site: MakeSite, host: str, status: int) -> None:
    site = await make_site(gate=Gate(hosts=["Sidecar.internal"]))
    assert only_reply(await site.talk(request("GET /hello", host=host)))[0] == status


@pytest.mark.parametrize(
    ("path", "authorization", "status", "code"),
    [
        ("/hello", "", 401, "token_missing"),
        ("/hello", "Bearer wrong", 401, "token_invalid"),
        ("/hello", "Basic secret", 401, "token_invalid"),
        ("/hello", "Bearer s\xe9cret", 401, "token_invalid"),
        ("/hello", "bearer secret", 200, ""),
        ("/none", "", 401, "token_missing"),
        ("/teapot", "", 400, "bad_body"),
    ],
)
async def test_token(make_site: MakeSite, path: str, authorization: str, status: int, code: str) -> None:
    site = await make_site(gate=Gate(token="secret", open_paths=["/teapot"]))
    field = f"authorization: {authorization}\r\n" if authorization else ""
    data = request(f"GET {path}", fields=field).decode().encode("latin-1")
    got, fields, _ = only_reply(await site.talk(data))
    assert (got, fields.get("x-outrigger-reason", "")) == (status, code)
    assert ("www-authenticate" in fields) == (got == 401)


async def test_defect_in_a_handler_is_told_to_the_log_only(make_site: MakeSite) -> None:
    site = await make_site()
    status, _, body = only_reply(await site.talk(request("GET /broken")))
    assert status == 500
    assert b"secret" not in body
    assert len(site.errors) == 1
    assert "secret" in site.errors[0]
    assert "/broken" in site.errors[0]


async def test_handler_that_hangs_is_given_up(make_site: MakeSite) -> None:
    site = await make_site(limits=Limits(handler_s=0.05))
    assert only_reply(await site.talk(request("GET /slow")))[0] == 504


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 20_000,
        b"GET / HTTP/1.1\r\nhost: localhost\r\na: " + b"b" * 20_000,
        b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n" + (b"a: " + b"b" * 1000 + b"\r\n") * 20 + b"\r\n",
    ],
)
async def test_head_is_bounded(make_site: MakeSite, data: bytes) -> None:
    site = await make_site()
    assert only_reply(await site.talk(data))[0] == 431


async def test_chunked_body_is_bounded_and_the_refusal_arrives(make_site: MakeSite) -> None:
    site = await make_site()
    reader, writer = await site.connect()
    writer.write(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
    try:
        for _ in range(40):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
    except ConnectionError:
        pytest.fail("the connection was reset before the refusal could be read")
    assert (await read_reply(reader))[0] == 413
    writer.close()


async def test_pipelining_is_bounded(make_site: MakeSite) -> None:
    site = await make_site()
    said = await site.talk(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n" * 1000)
    assert said.count(b"HTTP/1.1 200") == 16
    assert said.count(b"HTTP/1.1 400") == 1


@pytest.mark.parametrize(
    "data", [b"", b"GET /hel", b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx"]
)
async def test_slow_senders_are_cut(make_site: MakeSite, data: bytes) -> None:
    site = await make_site(limits=Limits(request_s=0.05))
    reader, writer = await site.connect()
    writer.write(data)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await read_reply(reader)
    assert not site.server.connections
    writer.close()


async def test_trickling_does_not_extend_the_time(make_site: MakeSite) -> None:
    site = await make_site(limits=Limits(request_s=0.1))
    _, writer = await site.connect()
    await until(lambda: site.server.connections)
    async with asyncio.timeout(5):
        while site.server.connections:
            writer.write(b"A")
            await asyncio.sleep(0.01)
    writer.close()


async def test_slow_reader_is_cut(make_site: MakeSite) -> None:
    site = await make_site(limits=Limits(write_s=0.1))
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
    writer.write(b"GET /big HTTP/1.1\r\nhost: localhost\r\n\r\n")
    (connection,) = await until(lambda: list(site.server.connections))
    await asyncio.wait_for(asyncio.shield(connection._done), 5)
    assert not site.server.connections
    writer.close()
    del reader


async def until(read: Callable[[], Any]) -> Any:
    async with asyncio.timeout(5):
        while not (value := read()):  # noqa: ASYNC110  the server has no event for the test's sake
            await asyncio.sleep(0.005)
        return value


async def test_idle_connection_is_closed(make_site: MakeSite) -> None:
    site = await make_site(limits=Limits(idle_s=0.05))
    reader, writer = await site.connect()
    writer.write(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await read_reply(reader)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_idle_connections_make_room_busy_ones_do_not(make_site: MakeSite) -> None:
    site = await make_site(limits=Limits(connections=2))
    busy_reader, busy = await site.connect()
    busy.write(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await site.entered.wait()
    idle_reader, idle = await site.connect()
    idle.write(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await read_reply(idle_reader)

    second_reader, second = await site.connect()
    site.entered.clear()
    second.write(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await asyncio.wait_for(site.entered.wait(), 5)
    assert only_reply(await site.talk(request("GET /hello")))[0] == 503

    site.release.set()
    assert (await read_reply(busy_reader))[2] == b"slow"
    assert (await read_reply(second_reader))[2] == b"slow"
    for writer in (busy, idle, second):
        writer.close()


async def test_slow_clients_make_room(make_site: MakeSite) -> None:
    site = await make_site(limits=Limits(connections=2))
    slow = [await site.connect() for _ in range(2)]
    for _, writer in slow:
        writer.write(b"GET /hello HTTP/1.1\r\nhost: loc")
    await until(lambda: sum(not connection.is_idle for connection in site.server.connections) == 2)
    assert only_reply(await site.talk(request("GET /hello")))[0] == 200
    slow[1][1].write(b"alhost\r\n\r\n")
    assert (await read_reply(slow[1][0]))[2] == b"hello", "only the older one was cut"
    for _, writer in slow:
        writer.close()


async def test_expect_continue(make_site: MakeSite) -> None:
    site = await make_site()
    reader, writer = await site.connect()
    head = f"PUT /echo HTTP/1.1\r\nhost: localhost\r\n{JSON}expect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    writer.write(head.encode())
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await read_reply(reader))[0] == 200
    writer.close()


async def test_an_offer_to_upgrade_is_ignored(make_site: MakeSite) -> None:
    site = await make_site()
    said = await site.talk(b"GET /hello HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
    assert only_reply(said)[0] == 200


async def test_half_closed_client_gets_its_answer(make_site: MakeSite) -> None:
    site = await make_site()
    reader, writer = await site.connect()
    writer.write(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
    writer.write_eof()
    await site.entered.wait()
    site.release.set()
    assert (await read_reply(reader))[2] == b"slow"
    assert await reader.read() == b""
    writer.close()


async def test_http_1_0(make_site: MakeSite) -> None:
    site = await make_site()
    status, fields, body = only_reply(await site.talk(b"GET /hello HTTP/1.0\r\n\r\n"))
    assert (status, fields["connection"], body) == (200, "close", b"hello")


async def test_close_lets_requests_finish_and_cuts_the_rest(make_site: MakeSite) -> None:
    site = await make_site()
    reader, writer = await site.connect()
    writer.write(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
    idle_reader, idle = await site.connect()
    await site.entered.wait()
    await until(lambda: len(site.server.connections) == 2)
    closing = asyncio.ensure_future(site.server.close(5))
    assert await asyncio.wait_for(idle_reader.read(), 5) == b""
    with pytest.raises(ConnectionError):
        await site.connect()
    assert not closing.done()
    site.release.set()
    status, fields, body = await read_reply(reader)
    assert (status, fields["connection"], body) == (200, "close", b"slow")
    writer.close()
    idle.close()
    await asyncio.wait_for(closing, 5)

    other = await make_site()
    reader, writer = await other.connect()
    writer.write(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await other.entered.wait()
    await asyncio.wait_for(other.server.close(0.05), 5)
    assert not other.server.connections
    writer.close()
