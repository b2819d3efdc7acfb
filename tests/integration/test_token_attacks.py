"""Tokens made to fool verifiers, against a real sidecar: 401 with a challenge, and nothing is fetched for them.

`tests/unit/test_jwt*.py` have the long tables; here the whole way is tried, and who an application believes is calling.
"""

import json
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from tests.kit.apps import RawApp, Received, ask, raw_app, split_answer
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.tokens import ISSUER, b64, claims, jwk, private_key, token

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Place(NamedTuple):
    """What runs while the module's tests do."""

    running: RunningSidecar
    app: RawApp
    trap: RawApp
    """Where the tokens point: nobody may ask it anything."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Place]:
    issuer = {"issuer": ISSUER, "audiences": ["orders"], "jwks": {"keys": [jwk("RS256")]}}
    issuer |= {"claim_headers": {"x-email": "email"}}
    routes = [{"name": "open", "match": {"path": "/open/**"}, "auth": "none"}]
    keys = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"
    evil = json.dumps({"keys": [jwk("RS256", "evil")]}).encode()
    async with (
        raw_app() as app,
        raw_app(keys % (len(evil), evil)) as trap,
        sidecar({"app": {"url": app.url}, "issuers": {"main": issuer}, "routes": routes}) as running,
    ):
        yield Place(running, app, trap)


def good(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    return claims(**({"exp": now + 600, "iat": now - 1} | changed))


async def call(place: Place, *lines: bytes, path: bytes = b"/a") -> tuple[int, dict[bytes, bytes], list[Received]]:
    place.app.received.clear()
    head = b"\r\n".join((b"GET " + path + b" HTTP/1.1", b"Host: a", b"Connection: close", *lines, b"", b""))
    status, fields, _ = split_answer(await ask(place.running.inbound, head))
    return status, fields, place.app.received


def unsigned(alg: str) -> bytes:
    return b64(json.dumps({"alg": alg, "typ": "JWT"}).encode()) + b"." + b64(json.dumps(good()).encode()) + b"."


def attacks(url: str) -> dict[str, bytes]:
    """Every one of them is refused."""
    evil = private_key("RS256", "evil")
    pem = json.dumps(jwk("RS256")).encode()
    valid = token(good())
    head, body, signature = valid.split(b".")
    return {
        "alg none": unsigned("none"),
        "alg None": unsigned("None"),
        "alg nOnE with a signature": token(good(), header={"alg": "nOnE"}),
        "the public key as HMAC secret": token(good(), alg="HS256", key=pem),
        "an empty HMAC secret": token(good(), alg="HS256", key=b""),
        "key in the header": token(good(), key=evil, header={"jwk": jwk("RS256", "evil")}),
        "jku": token(good(), key=evil, kid="evil", header={"jku": f"{url}/jwks.json"}),
        "x5u": token(good(), key=evil, kid="evil", header={"x5u": f"{url}/cert.pem"}),
        "kid is a URL": token(good(), key=evil, kid=f"{url}/k1"),
        "kid is a path": token(good(), alg="HS256", kid="../../../../dev/null", key=b""),
        "kid is SQL": token(good(), key=evil, kid="k1' UNION SELECT 'a"),
        "issuer is a URL": token(good(iss=url), key=evil, kid="evil"),
        "issuer is a list": token(good(iss=[ISSUER])),
        "audience is another": token(good(aud="billing")),
        "no audience": token(good(aud=...)),
        "expired": token(good(exp=int(time.time()) - 3600)),
        "never expires": token(good(exp=...)),
        "expires in words": token(good(exp="tomorrow")),
        "expires at infinity": token(b'{"iss":"%b","aud":"orders","exp":1e999}' % ISSUER.encode()),
        "expires beyond all numbers": token(b'{"iss":"%b","aud":"orders","exp":1%b}' % (ISSUER.encode(), b"0" * 5000)),
        "not yet": token(good(nbf=int(time.time()) + 3600)),
        "crit": token(good(), header={"crit": ["exp"]}),
        "unencoded payload": token(good(), header={"b64": False, "crit": ["b64"]}),
        "signature of another": b".".join((head, b64(json.dumps(good(sub="root")).encode()), signature)),
        "no signature": head + b"." + body + b".",
        "two parts": head + b"." + body,
        "five parts": valid + b".a.b",
        "padding": head + b"=." + body + b"." + signature,
        "other alphabet": valid.replace(b"-", b"+").replace(b"_", b"/") + b"+",
        "payload is no object": token(b"[]"),
        "payload is no JSON": token(b"{"),
        "payload is deep": token(b'{"a":' * 2000 + b"1" + b"}" * 2000),
        "header is deep": token(good(), header=b"[" * 5000),
        "lone surrogate": token(b'{"sub":"\\ud800","iss":"%b"}' % ISSUER.encode()),
        "empty": b"",
        "dots": b"..",
        "long": b"a" * 16000,
        "a blank in it": head + b" ." + body + b"." + signature,
        "a tab after it, and more": valid + b"\tx",
        "two tokens": valid + b", Bearer " + valid,
        "bytes": b"\xff\xfe.\xff.\xff",
    }


async def test_forged_tokens_are_refused_and_nothing_is_fetched_for_them(place: Place) -> None:
    seen: dict[str, object] = {}
    for name, forged in attacks(place.trap.url).items():
        status, fields, received = await call(place, b"Authorization: Bearer " + forged)
        challenge = fields.get(b"www-authenticate", b"")
        if (status, received) != (401, []) or not challenge.startswith(b"Bearer"):
            seen[name] = (status, fields)
        elif name != "empty" and b'error="invalid_token"' not in challenge:
            seen[name] = challenge
    assert seen == {}
    assert place.trap.connections == 0


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Basic YTpi",
        b"Authorization: bearer",
        b"Authorization:",
        b"X-Authorization: Bearer a",
        b"Cookie: a",
    ],
)
async def test_no_token_is_no_error_of_the_token(place: Place, line: bytes) -> None:
    """RFC 6750, section 3: without a token the challenge names no error."""
    status, fields, received = await call(place, line)
    assert (status, received) == (401, [])
    assert fields[b"www-authenticate"].startswith(b"Bearer")


async def test_a_good_token_passes_and_says_who_is_calling(place: Place) -> None:
    valid = token(good(email="jane@shop"))
    status, _, [request] = await call(place, b"Authorization: Bearer " + valid)
    assert status == 200
    assert request.values(b"x-outrigger-subject") == [b"jane"]
    assert request.values(b"x-email") == [b"jane@shop"]


SPOOFED = [b"X-Email: root@shop", b"x_email: root@shop", b"X.Email: root@shop", b"X-Outrigger-Subject: root"]
SPOOFED += [b"x_outrigger_subject: root", b"X_OUTRIGGER_ROLES: admin"]


@pytest.mark.parametrize("line", SPOOFED)
@pytest.mark.parametrize("path", [b"/a", b"/open/a"])
async def test_nobody_says_for_himself_who_is_calling(place: Place, line: bytes, path: bytes) -> None:
    """With a token that lacks the claim, and on a route that needs none."""
    status, _, [request] = await call(place, b"Authorization: Bearer " + token(good()), line, path=path)
    assert status == 200
    assert b"root" not in b"".join(value for _, value in request.fields)
    assert b"admin" not in b"".join(value for _, value in request.fields)


async def test_connection_cannot_take_the_token_away(place: Place) -> None:
    valid = token(good())
    status, fields, received = await call(place, b"Authorization: Bearer " + valid, b"Connection: authorization")
    assert (status, received) == (400, [])
    assert fields[b"x-outrigger-reason"] == b"malformed_request"
