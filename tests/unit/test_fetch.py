"""The bounded GET against real servers that answer, stall, flood, lie and break."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.drivers.fetch import (
    FetchConnectError,
    FetchError,
    FetchProtocolError,
    FetchTimeoutError,
    FetchTlsError,
    FetchTooLargeError,
    FetchUrlError,
    fetch,
)
from tests.kit.tls import make_authority
from tests.kit.until import until

LOOPS = ("asyncio", "uvloop")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def raw_server(answer: bytes, *, hold: bool = False, drip_s: float = 0) -> AsyncIterator[str]:
    """Sends these bytes to whoever connects; then closes, or holds the connection, or drips them one by one."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(65536)
            for part in [bytes([byte]) for byte in answer] if drip_s else [answer]:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(drip_s)
            if hold:
                await done.wait()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    finally:
        done.set()
        server.close()


async def get(
    url: str, *, timeout_s: float = 5, max_bytes: int = 1000, ca_file: str | None = None
) -> tuple[int, bytes]:
    answer = await fetch(url, timeout_s=timeout_s, max_bytes=max_bytes, ca_file=ca_file)
    return answer.status, answer.body


async def test_an_answer_has_status_headers_and_body() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert (request.method, request.path_qs, request.headers["x-mine"]) == ("GET", "/a/b?c=d&e", "1")
        assert (request.headers["accept"], request.headers["accept-encoding"]) == ("application/json", "identity")
        return web.Response(body=b"x" * 1000, headers={"X-Made-By": "test"})

    async with serving(handler) as server:
        answer = await fetch(str(server.make_url("/a/b?c=d&e")), timeout_s=5, max_bytes=1000, headers=[("x-mine", "1")])
    assert (answer.status, answer.headers["x-made-by"], answer.body) == (200, "test", b"x" * 1000)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304, 401, 404, 500, 503])
async def test_no_status_is_followed_or_raised(status: int) -> None:
    asked = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with serving(handler) as server:
        assert (await get(str(server.make_url("/keys"))))[0] == status
    assert asked == ["/keys"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_answer_is_refused_without_reading_all_of_it(chunked: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if not chunked:
            response.content_length = 10**12
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            return response

    async with serving(handler) as server:
        with pytest.raises(FetchTooLargeError, match="more than 1000 bytes"):
            await get(str(server.make_url("/keys")))


@pytest.mark.parametrize(
    ("answer", "hold", "drip_s"),
    [
        (b"", True, 0),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", True, 0),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n", True, 0),
        (b"HTTP/1.1 200 OK\r\nx-slow: " + b"a" * 10_000, False, 0.05),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n" + b"a" * 900, False, 0.05),
    ],
    ids=["silent", "half body", "half chunks", "dripping head", "dripping body"],
)
async def test_the_time_out_is_for_the_whole_call(answer: bytes, hold: bool, drip_s: float) -> None:
    started = time.monotonic()
    async with raw_server(answer, hold=hold, drip_s=drip_s) as url:
        with pytest.raises(FetchTimeoutError, match=r"no complete answer within 0\.3 s.*raise timeout_s"):
            await get(url, timeout_s=0.3)
        assert time.monotonic() - started < 10
        await no_thread_left()


async def no_thread_left() -> None:
    for _ in range(500):
        if not any(thread.name == "fetch" for thread in threading.enumerate()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a thread goes on waiting")


async def test_a_cancelled_call_ends_its_thread() -> None:
    async with raw_server(b"", hold=True) as url:
        task = asyncio.create_task(get(url, timeout_s=60))
        await until(lambda: any(thread.name == "fetch" for thread in threading.enumerate()))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await no_thread_left()


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
        b"",
    ],
    ids=range(8),
)
async def test_what_is_no_complete_http_is_refused(answer: bytes) -> None:
    async with raw_server(answer) as url:
        with pytest.raises((FetchProtocolError, FetchConnectError)):
            await get(url)


async def test_a_connection_that_ends_early_gives_no_half_answer() -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc") as url:
        with pytest.raises(FetchConnectError, match="after 3 of 10 bytes"):
            await get(url)


async def test_nobody_listens() -> None:
    async with raw_server(b"") as url:
        pass
    with pytest.raises(FetchConnectError, match=r"127\.0\.0\.1.*refused.*server is up"):
        await get(url)


async def test_a_name_that_does_not_exist() -> None:
    with pytest.raises((FetchConnectError, FetchTimeoutError)) as caught:
        await get("http://does-not-exist.invalid/keys", timeout_s=20)
    assert "does-not-exist.invalid/keys" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "", "keys", "/keys", "file:///etc/passwd", "ftp://a.example/", "unix:/run/x", "http://", "https:///keys",
        "http://a.example/a b", "http://a.example/\r\nx: y", "http://a.example/\u00e9", "http://a.example:99999/",
        "http://a.example:x/", "http://[::1/", "javascript:alert(1)", "http://a.example/\x00",
    ],
)  # fmt: skip
async def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(FetchUrlError):
        await get(url)


async def test_credentials_and_query_are_never_shown() -> None:
    async with raw_server(b"garbage\r\n\r\n") as url:
        secret = url.replace("http://", "http://user:hush@") + "?token=hush"
        with pytest.raises(FetchError) as caught:
            await get(secret)
    assert "hush" not in str(caught.value)
    assert "/keys" in str(caught.value)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="direct")

    async with serving(handler) as server:
        assert await get(str(server.make_url("/"))) == (200, b"direct")


@asynccontextmanager
async def serving_tls(folder: Path, host: str = "127.0.0.1") -> AsyncIterator[tuple[str, str]]:
    authority = make_authority(folder, host)

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="secure")

    app = web.Application()
    app.router.add_get("/", handler)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=authority.server_context())
    try:
        yield f"https://127.0.0.1:{server.port}/", str(authority.ca_file)
    finally:
        await server.close()


async def test_a_private_authority_is_trusted_where_it_is_configured(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as (url, ca_file):
        assert await get(url, ca_file=ca_file) == (200, b"secure")


async def test_certificates_are_verified(tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other")
    async with serving_tls(tmp_path / "a") as (url, _):
        for ca_file in (None, str(other.ca_file)):
            with pytest.raises(FetchTlsError, match=r"certificate is refused.*ca_file"):
                await get(url, ca_file=ca_file)


async def test_names_of_certificates_are_verified(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, "another.example") as (url, ca_file):
        with pytest.raises(FetchTlsError, match="certificate is refused"):
            await get(url, ca_file=ca_file)


async def test_a_missing_or_broken_ca_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("not PEM")
    async with serving_tls(tmp_path / "a") as (url, _):
        for path in (tmp_path / "missing.pem", broken):
            with pytest.raises(FetchTlsError, match=str(path)):
                await get(url, ca_file=str(path))


async def test_plain_http_where_tls_is_expected() -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\n\r\n") as url:
        with pytest.raises((FetchTlsError, FetchConnectError)):
            await get(url.replace("http://", "https://"), timeout_s=2)
