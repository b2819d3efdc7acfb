"""TLS for clients: certificates follow their files, and whoever speaks otherwise comes to a clear end."""

import asyncio
import contextlib
import shutil
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.apps import OK, RawApp, ask, raw_app, split_answer
from tests.kit.client import Client
from tests.kit.sidecar import LISTEN, RunningSidecar, sidecar
from tests.kit.tls import Authority, make_authority
from tests.kit.until import becomes, until

VERSIONS = {"1.1": ssl.TLSVersion.TLSv1_1, "1.2": ssl.TLSVersion.TLSv1_2}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "tls")


@pytest.fixture
async def app() -> AsyncIterator[RawApp]:
    async with raw_app() as application:
        yield application


def config(app: RawApp, authority: Authority, limits: dict[str, float] | None = None, **tls: str) -> dict[str, Any]:
    files = {"cert_file": str(authority.cert_file), "key_file": str(authority.key_file)}
    inbound = {"host": "127.0.0.1", "port": 0, "tls": {**files, **tls}}
    return {"app": {"url": app.url}, "listen": {**LISTEN, "inbound": inbound}, "limits": limits or {}}


def trusting(authority: Authority, identity: Authority | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca_file)
    if identity is not None:
        context.load_cert_chain(identity.cert_file, identity.key_file)
    return context


async def connect(process: RunningSidecar, context: ssl.SSLContext) -> Client:
    return Client(*await asyncio.open_connection(*process.inbound, ssl=context, server_hostname="127.0.0.1"))


async def ask_once(process: RunningSidecar, context: ssl.SSLContext) -> int:
    one = await connect(process, context)
    try:
        return (await one.request()).status
    finally:
        one.close()


def messages(process: RunningSidecar) -> list[str]:
    return [str(line.get("message", "")) for line in process.log()]


async def test_requests_over_tls(app: RawApp, authority: Authority) -> None:
    app.answer = lambda request: OK.replace(b"length: 2", b"length: %d" % len(request.body))[:-2] + request.body
    async with sidecar(config(app, authority)) as process:
        one = await connect(process, trusting(authority))
        body = bytes(range(256)) * 8192
        for _ in range(3):
            assert (await one.request("POST", "/a", body=body)).body == body
        answer = await one.request("POST", "/a", {"Connection": "close"}, body)
        assert (answer.body, answer.fields["connection"]) == (body, "close")
        assert await one.reader.read() == b""
        one.close()
    assert app.received[0].values(b"x-forwarded-proto") == [b"https"]


async def test_a_refusal_can_be_read_though_the_client_sends_on(app: RawApp, authority: Authority) -> None:
    async with sidecar(config(app, authority, {"body_bytes": 1000})) as process:
        for _ in range(5):
            one = await connect(process, trusting(authority))
            one.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000))
            async with asyncio.timeout(10):
                answer = await one.read()
            assert (answer.status, answer.code) == (413, "body_too_large")
            one.close()


async def test_a_replaced_certificate_serves_new_handshakes(app: RawApp, authority: Authority, tmp_path: Path) -> None:
    async with sidecar(config(app, authority)) as process:
        old = await connect(process, trusting(authority))
        assert (await old.request()).status == 200
        new = make_authority(tmp_path / "new")
        shutil.copy(new.cert_file, authority.cert_file)
        await asyncio.sleep(1.5)  # a look between the two files: they don't fit yet
        shutil.copy(new.key_file, authority.key_file)
        await becomes(_logged(process, "the TLS certificate was read again"), bool)
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(process, trusting(authority))
        fresh = await connect(process, trusting(new))
        assert (await fresh.request()).status == 200
        assert (await old.request()).status == 200
        old.close()
        fresh.close()


async def test_an_unusable_certificate_is_logged_once_and_the_old_one_stays(app: RawApp, authority: Authority) -> None:
    async with sidecar(config(app, authority)) as process:
        authority.cert_file.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        complaint = "the new TLS certificate can't be used; the old one stays"
        await becomes(_logged(process, complaint), bool)
        one = await connect(process, trusting(authority))
        assert (await one.request()).status == 200
        one.close()
        await asyncio.sleep(2.5)
        assert messages(process).count(complaint) == 1
        [line] = [line for line in process.log() if line.get("message") == complaint]
        assert str(authority.cert_file) in line["error"]


def _logged(process: RunningSidecar, message: str) -> Callable[[], Awaitable[bool]]:
    async def read() -> bool:
        return message in messages(process)

    return read


@pytest.mark.parametrize(
    ("mode", "identity", "accepted"),
    [
        ("required", "known", True),
        ("required", "unknown", False),
        ("required", None, False),
        ("optional", "known", True),
        ("optional", "unknown", False),
        ("optional", None, True),
    ],
)
async def test_client_certificates(
    app: RawApp, authority: Authority, tmp_path: Path, mode: str, identity: str | None, accepted: bool
) -> None:
    clients, strangers = make_authority(tmp_path / "clients"), make_authority(tmp_path / "strangers")
    shown = {"known": clients, "unknown": strangers, None: None}[identity]
    settings = config(app, authority, client_cert=mode, client_ca_file=str(clients.ca_file))
    async with sidecar(settings) as process:
        if accepted:
            one = await connect(process, trusting(authority, shown))
            assert (await one.request()).status == 200
            one.close()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await ask_once(process, trusting(authority, shown))
            assert app.received == []


@pytest.mark.parametrize(
    ("least", "offered", "accepted"), [("1.2", "1.1", False), ("1.2", "1.2", True), ("1.3", "1.2", False)]
)
async def test_old_versions_are_refused(
    app: RawApp, authority: Authority, least: str, offered: str, accepted: bool
) -> None:
    context = trusting(authority)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is what the test is about
        context.minimum_version = context.maximum_version = VERSIONS[offered]
    async with sidecar(config(app, authority, min_version=least)) as process:
        if accepted:
            one = await connect(process, context)
            assert (await one.request()).status == 200
            one.close()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await connect(process, context)


async def test_a_flood_of_handshakes_is_bounded(app: RawApp, authority: Authority) -> None:
    async with sidecar(config(app, authority, {"connections": 20, "header_timeout_s": 2})) as process:

        def descriptors() -> int:
            return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))

        one = await connect(process, trusting(authority))
        assert (await one.request()).status == 200
        before = descriptors()
        writers = [(await asyncio.open_connection(*process.inbound))[1] for _ in range(200)]
        refused = "outrigger_connections_refused_total"
        assert await process.until_metric(lambda count: count >= 150, refused) == 200 - 19
        assert descriptors() <= before + 20
        assert (await one.request()).status == 200
        await until(lambda: descriptors() <= before)  # those that stay silent are cut
        assert await ask_once(process, trusting(authority)) == 200
        for writer in (one.writer, *writers):
            writer.close()


async def test_whoever_speaks_otherwise_gets_a_clear_end(app: RawApp, authority: Authority) -> None:
    async with sidecar(config(app, authority, {"header_timeout_s": 1})) as process:
        async with asyncio.timeout(5):
            assert b"HTTP/1.1 200" not in await ask(process.inbound, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(5):  # a handshake that never goes on is cut
            reader, writer = await asyncio.open_connection(*process.inbound)
            writer.write(b"\x16\x03\x01")
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        one = await connect(process, trusting(authority))
        assert (await one.request()).status == 200
        one.close()
        assert not [line for line in process.log() if "Traceback" in str(line)]
    async with sidecar({"app": {"url": app.url}}) as process:
        hello = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(158))
        status, fields, _ = split_answer(await ask(process.inbound, hello))
        assert (status, fields[b"x-outrigger-reason"]) == (400, b"malformed_request")
        [line] = await process.access_log(1)
        assert "TLS" in line["outrigger.why"]
