"""The outbound listener: the application reaches configured upstreams, in three ways, and nothing else."""

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.kit.apps import OK, RawApp, Received, ask, raw_app, socket_app, split_answer
from tests.kit.client import client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.tls import make_authority

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def slowly(request: Received) -> bytes:
    if b"/slow" in request.line:
        await asyncio.sleep(3)
    return OK


async def speaks_plain_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")


async def tls_app(stack: AsyncExitStack, folder: Path, host: str) -> tuple[str, str]:
    """A TLS server with a certificate for `host`: its URL and its authority's file."""
    authority = make_authority(folder, host)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            writer.close()

    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=authority.server_context())
    stack.callback(server.close)
    return f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", str(authority.ca_file)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app() -> AsyncIterator[RawApp]:
    async with raw_app(slowly) as app:
        yield app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(app: RawApp, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningSidecar]:
    folder = tmp_path_factory.mktemp("tls")
    async with AsyncExitStack() as stack:
        good, good_ca = await tls_app(stack, folder / "good", "127.0.0.1")
        named, named_ca = await tls_app(stack, folder / "named", "inner.example")
        plain = await stack.enter_async_context(socket_app(speaks_plain_http))
        upstreams = {
            "inventory": {"targets": [app.url], "hosts": ["inventory.internal", "stock.internal"]},
            "kept": {"targets": [app.url], "preserve_host": True},
            "quick": {"targets": [app.url], "timeout_s": 0.3},
            "tls": {"targets": [good], "tls": {"ca_file": good_ca}},
            "foreign-ca": {"targets": [good], "tls": {"ca_file": named_ca}},
            "no-ca": {"targets": [good]},
            "wrong-name": {"targets": [named], "tls": {"ca_file": named_ca}},
            "server-name": {"targets": [named], "tls": {"ca_file": named_ca, "server_name": "inner.example"}},
            "unverified": {"targets": [named], "tls": {"verify": False, "insecure_skip_verify": True}},
            "no-tls": {"targets": [plain.replace("http", "https")], "tls": {"ca_file": good_ca}},
        }
        yield await stack.enter_async_context(sidecar({"app": {"url": app.url}, "upstreams": upstreams}))


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/v1/invoke/inventory/items/7?x=1&y", "/items/7?x=1&y"),
        ("/v1/invoke/inventory/a%2Fb/%2e%2e/c", "/a%2Fb/%2e%2e/c"),
        ("/v1/invoke/inventory//a//b/", "//a//b/"),
        ("/v1/invoke/inventory/a;b=c/../d", "/a;b=c/../d"),
        ("/v1/invoke/inventory/", "/"),
        ("/v1/invoke/inventory", "/"),
        ("/v1/invoke/inventory?q=1", "/?q=1"),
    ],
)
async def test_invoke_sends_the_path_verbatim(running: RunningSidecar, app: RawApp, path: str, sent: str) -> None:
    answer = await fetch(running.address("outbound"), path)
    assert (answer.status, answer.origin) == (200, "upstream")
    request = app.received[-1]
    assert request.line == f"GET {sent} HTTP/1.1".encode()
    assert request.values(b"host") == [f"127.0.0.1:{app.port}".encode()]
    assert request.values(b"x-forwarded-for") == []
    assert len(request.values(b"traceparent")) == 1


@pytest.mark.parametrize("host", ["inventory.internal", "stock.internal:80", "STOCK.internal"])
async def test_a_host_names_an_upstream(running: RunningSidecar, app: RawApp, host: str) -> None:
    assert (await fetch(running.address("outbound"), "/by/host", headers={"Host": host})).status == 200
    assert app.received[-1].line == b"GET /by/host HTTP/1.1"


async def test_the_upstreams_own_name_counts_where_no_hosts_are_given(running: RunningSidecar, app: RawApp) -> None:
    assert (await fetch(running.address("outbound"), "/", headers={"Host": "kept:8000"})).status == 200
    assert app.received[-1].values(b"host") == [b"kept:8000"]
    assert (await fetch(running.address("outbound"), "/", headers={"Host": "inventory"})).code == "unknown_upstream"


async def test_http_proxy_works_with_real_clients(running: RunningSidecar, app: RawApp) -> None:
    host, port = running.address("outbound")
    proxy = f"http://{host}:{port}"
    async with aiohttp.ClientSession() as session:
        async with session.get("http://inventory.internal/by/aiohttp?x=1", proxy=proxy) as answer:
            assert (answer.status, await answer.text()) == (200, "ok")
        async with session.post("http://inventory.internal/post", proxy=proxy, data=b"abc") as answer:
            assert answer.status == 200
        async with session.get("http://elsewhere.example/", proxy=proxy) as answer:
            assert (answer.status, answer.headers["X-Outrigger-Reason"]) == (403, "unknown_upstream")
    assert [request.line for request in app.received[-2:]] == [
        b"GET /by/aiohttp?x=1 HTTP/1.1", b"POST /post HTTP/1.1",
    ]  # fmt: skip
    assert app.received[-1].body == b"abc"

    def by_urllib() -> tuple[int, bytes]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
        with opener.open("http://stock.internal/by/urllib", timeout=10) as answer:
            return answer.status, answer.read()

    assert await asyncio.to_thread(by_urllib) == (200, b"ok")
    assert app.received[-1].line == b"GET /by/urllib HTTP/1.1"


@pytest.mark.parametrize(
    ("path", "host", "status", "code"),
    [
        ("/v1/invoke/nobody/x", "localhost", 403, "unknown_upstream"),
        ("/v1/invoke//x", "localhost", 403, "unknown_upstream"),
        ("/v1/invoke/inventory%2Fx", "localhost", 403, "unknown_upstream"),
        ("/v1/invoke/Inventory/x", "localhost", 403, "unknown_upstream"),
        ("/v1/invoke/inventory/x", "evil.example", 403, "unknown_upstream"),
        ("/x", "localhost", 403, "unknown_upstream"),
        ("http://169.254.169.254/latest/", "169.254.169.254", 403, "unknown_upstream"),
        ("http://inventory.internal/", "elsewhere.example", 400, "bad_host"),
        ("ftp://inventory.internal/", "inventory.internal", 400, "bad_path"),
    ],
)
async def test_it_is_no_open_proxy(running: RunningSidecar, path: str, host: str, status: int, code: str) -> None:
    answer = await fetch(running.address("outbound"), path, headers={"Host": host})
    assert (answer.status, answer.code, answer.origin) == (status, code, "agent")


async def test_connect_is_refused(running: RunningSidecar) -> None:
    data = await ask(running.address("outbound"), b"CONNECT inventory.internal:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    status, fields, _ = split_answer(data)
    assert (status, fields[b"x-outrigger-reason"]) == (405, b"method_not_supported")


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("tls", 200, ""),
        ("server-name", 200, ""),
        ("unverified", 200, ""),
        ("foreign-ca", 502, "upstream_tls"),
        ("no-ca", 502, "upstream_tls"),
        ("wrong-name", 502, "upstream_tls"),
        ("no-tls", 502, "upstream_tls"),
    ],
)
async def test_tls_to_upstreams(running: RunningSidecar, name: str, status: int, code: str) -> None:
    async with client(running.address("outbound")) as one:
        for turn in range(2):
            answer = await one.request("GET", f"/v1/invoke/{name}/{turn}")
            assert (answer.status, answer.code) == (status, code)
    if code:
        assert "https://127.0.0.1:" in (await running.line_of(f"/v1/invoke/{name}/0"))["outrigger.why"]


def left_ms(app: RawApp) -> int:
    [value] = app.received[-1].values(b"x-outrigger-deadline-ms")
    return int(value)


async def test_the_deadline_goes_on_and_shrinks(running: RunningSidecar, app: RawApp) -> None:
    await fetch(running.address("outbound"), "/v1/invoke/inventory/x")
    assert 14_000 < left_ms(app) <= 15_000
    await fetch(running.address("outbound"), "/v1/invoke/inventory/x", headers={"X-Outrigger-Deadline-Ms": "700"})
    assert 300 < left_ms(app) <= 700
    await fetch(running.address("outbound"), "/v1/invoke/quick/x", headers={"X-Outrigger-Deadline-Ms": "60000"})
    assert 100 < left_ms(app) <= 300


async def test_a_callers_deadline_ends_the_call(running: RunningSidecar) -> None:
    sent = {"X-Outrigger-Deadline-Ms": "200"}
    answer = await fetch(running.address("outbound"), "/v1/invoke/inventory/slow", headers=sent)
    assert (answer.status, answer.code) == (504, "timeout")
    answer = await fetch(running.address("outbound"), "/v1/invoke/quick/slow")
    assert (answer.status, answer.code) == (504, "timeout")


async def test_the_log_says_which_way_a_call_went(running: RunningSidecar) -> None:
    await fetch(running.address("outbound"), "/v1/invoke/inventory/logged")
    line = await running.line_of("/v1/invoke/inventory/logged")
    assert line["outrigger.direction"] == "outbound"
    assert line["outrigger.route"] == "upstream:inventory"


async def test_the_local_api_tells_where_to_call(running: RunningSidecar) -> None:
    local = running.address("local")
    told = json.loads((await fetch(local, "/v1/capabilities")).body)
    assert told["invoke"]["address"] == running.listening["outbound"]
    assert "inventory" in told["invoke"]["upstreams"]
    there = await fetch(local, "/v1/invoke/inventory/items")
    assert (there.status, there.code) == (501, "unsupported"), "it is served on the outbound address"
