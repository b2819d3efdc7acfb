"""Whatever is wrong with a request, its credentials don't get into the log or into the answer."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kit.apps import ask, raw_app
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.tokens import ISSUER, jwk

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = b"c2VzYW1lLW9wZW4"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[RunningSidecar]:
    issuer = {"issuer": ISSUER, "audiences": ["orders"], "jwks": {"keys": [jwk("RS256")]}}
    async with raw_app() as app, sidecar({"app": {"url": app.url}, "issuers": {"main": issuer}}) as running:
        yield running


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: %b",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: %b x",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer:%b",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic %b",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer %b",
        b"GET / HTTP/1.1\r\nHost: a\r\nCookie\t: id=%b",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n %b",
        b"GET / HTTP/1.1\r\nHost: a\r\n%b",
        b"GET http://user:%b@a/ HTTP/1.1\r\nHost: a",
        b"GET a?token=%b HTTP/1.1\r\nHost: a",
        b"GET /?token=%b HTTP/1.1\r\nHost: user:%b@a",
    ],
)
async def test_credentials_in_the_wrong_place_are_not_logged(running: RunningSidecar, request_head: bytes) -> None:
    before = len([line for line in running.log() if "outrigger.direction" in line])
    answer = await ask(running.inbound, request_head.replace(b"%b", SECRET) + b"\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 40")
    lines = await running.access_log(before + 1)
    assert "outrigger.why" in lines[-1]
    assert SECRET.decode() not in str(lines[before:])
    assert SECRET not in answer
