"""Tokens, roles, CORS, addresses and shadow mode on a live sidecar."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.kit.apps import RawApp, raw_app
from tests.kit.client import Answer, client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.tokens import claims, jwk, jwks, token
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


def fresh(**changed: Any) -> dict[str, Any]:
    now = time.time()
    return claims(**({"iat": now - 5, "exp": now + 600} | changed))


def bearer(value: bytes) -> dict[str, str]:
    return {"Authorization": f"Bearer {value.decode()}"}


SHADOWS: dict[str, dict[str, Any]] = {
    "jwt": {"auth": {"mode": "shadow"}},
    "authorize": {"auth": {"mode": "shadow", "roles": {"all": ["nobody"]}}},
    "ip_access": {"ip": {"deny": ["127.0.0.0/8"], "mode": "shadow"}},
    "rate_limit": {"rate_limits": [{"name": "one", "limit": 1, "per_s": 60, "key": ["ip"], "mode": "shadow"}]},
    "circuit_breaker": {"circuit_breaker": {"min_requests": 1, "mode": "shadow"}},
    "concurrency": {"concurrency": {"max_in_flight": 1, "max_queue": 0, "mode": "shadow"}},
    "cors": {"cors": {"allow_origins": ["https://shop.example"], "mode": "shadow"}},
}
CODES = {
    "jwt": "token_missing", "authorize": "role_missing", "ip_access": "ip_denied", "rate_limit": "rate_limited",
    "circuit_breaker": "circuit_open", "concurrency": "overloaded", "cors": "cors_denied",
}  # fmt: skip

ROUTES: list[dict[str, Any]] = [
    {"name": "read", "match": {"path": "/read/**"}, "auth": {
        "issuers": ["main", "elliptic"], "roles": {"any": ["reader"]}, "scopes": {"all": ["orders:read"]}}},
    {"name": "open", "match": {"path": "/open/**"}, "auth": "none"},
    {"name": "closed", "match": {"path": "/closed/**"}, "auth": "deny"},
    {"name": "optional", "match": {"path": "/optional/**"}, "auth": {"optional": True}},
    {"name": "hidden", "match": {"path": "/hidden/**"}, "auth": {"forward_token": False}},
    {"name": "per-subject", "match": {"path": "/per-subject/**"},
     "rate_limits": [{"name": "s", "limit": 2, "per_s": 60}]},
    {"name": "guarded", "match": {"path": "/guarded/**"}, "rate_limits": [
        {"name": "a", "limit": 4, "per_s": 60, "key": ["ip"]}, {"name": "s", "limit": 2, "per_s": 60}]},
    {"name": "denied", "match": {"path": "/denied/**"}, "auth": "none", "ip": {"deny": ["127.0.0.1"]}},
    {"name": "allowed", "match": {"path": "/allowed/**"}, "auth": "none", "ip": {"allow": ["10.0.0.0/8"]}},
    {"name": "cors", "match": {"path": "/cors/**"},
     "cors": {"allow_origins": ["https://shop.example"], "allow_credentials": True}},
    *({"name": f"shadow-{name}", "match": {"path": f"/shadow-{name}/**"},
       "auth": "none", **settings} for name, settings in SHADOWS.items()),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app() -> AsyncIterator[RawApp]:
    def answer(request: Any) -> bytes:
        status = b"500 No" if b"/fails" in request.line else b"200 OK"
        return b"HTTP/1.1 %b\r\naccess-control-allow-origin: *\r\ncontent-length: 0\r\n\r\n" % status

    async with raw_app(answer) as app:
        yield app


def key_file(folder: Path) -> str:
    file = folder / "jwks.json"
    file.write_bytes(jwks(jwk("RS256", "k1")))
    return str(file)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(app: RawApp, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningSidecar]:
    file = key_file(tmp_path_factory.mktemp("keys"))
    issuers = {
        "main": {
            "issuer": claims()["iss"], "audiences": ["orders"], "jwks": {"file": file},
            "roles_from": ["realm_access.roles"], "claim_headers": {"x-email": "email"}, "tenant_from": "tid",
        },
        "elliptic": {
            "issuer": "https://ec.example", "audiences": ["orders"], "algorithms": ["ES256"],
            "jwks": {"keys": [jwk("ES256", "e1")]}, "roles_from": ["roles"],
        },
    }  # fmt: skip
    config = {"app": {"url": app.url}, "issuers": issuers, "routes": ROUTES}
    async with sidecar(config) as running:
        yield running


READER = {"realm_access": {"roles": ["reader"]}, "scope": "orders:read x", "tid": "t1", "email": "jane@shop.example"}


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        (READER, 200, ""),
        (READER | {"realm_access": {"roles": ["writer"]}}, 403, "role_missing"),
        (READER | {"scope": "orders:write"}, 403, "scope_missing"),
        (READER | {"aud": "billing"}, 401, "token_invalid"),
        (READER | {"iss": "https://evil.example"}, 401, "token_invalid"),
        (READER | {"exp": 1_000_000_000}, 401, "token_expired"),
    ],
)
async def test_tokens_are_judged(running: RunningSidecar, changed: dict[str, Any], status: int, code: str) -> None:
    answer = await fetch(running.inbound, "/read/x", headers=bearer(token(fresh(**changed))))
    assert (answer.status, answer.code) == (status, code)
    challenge = answer.fields.get("www-authenticate", "")
    if status == 401:
        assert 'error="invalid_token"' in challenge
    elif status == 403:
        assert 'error="insufficient_scope"' in challenge
    else:
        assert challenge == ""


async def test_a_closed_route_lets_nobody_in_and_explain_says_so(running: RunningSidecar) -> None:
    answer = await fetch(running.inbound, "/closed/x", headers=bearer(token(fresh(**READER))))
    assert (answer.status, answer.code) == (403, "route_denied")
    status, body = await running.admin("/explain", {"method": "GET", "url": "/closed/x"})
    explained = json.loads(body)
    assert (status, explained["route"], explained["verdict"]) == (200, "closed", "deny")
    assert explained["answer"]["code"] == "route_denied"
    assert explained["policies"][-1]["why"] == "the route is closed to everybody: auth is deny"


async def test_another_issuer_with_elliptic_keys(running: RunningSidecar) -> None:
    payload = fresh(iss="https://ec.example", roles=["reader"], scope="orders:read")
    assert (
        await fetch(running.inbound, "/read/x", headers=bearer(token(payload, alg="ES256", kid="e1")))
    ).status == 200
    confused = token(payload, alg="RS256", kid="k1")
    assert (await fetch(running.inbound, "/read/x", headers=bearer(confused))).code == "token_invalid"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/read/x", 401, "token_missing"),
        ("/nowhere", 401, "token_missing"),
        ("/open/x", 200, ""),
        ("/optional/x", 200, ""),
    ],
)
async def test_without_a_token(running: RunningSidecar, path: str, status: int, code: str) -> None:
    answer = await fetch(running.inbound, path)
    assert (answer.status, answer.code) == (status, code)
    if status == 401:
        assert answer.fields["www-authenticate"] == 'Bearer realm="outrigger"'


async def test_a_bad_token_is_refused_where_it_is_optional(running: RunningSidecar) -> None:
    assert (
        await fetch(running.inbound, "/optional/x", headers={"Authorization": "Bearer a.b.c"})
    ).code == "token_invalid"


async def test_identity_headers_are_ours_alone(running: RunningSidecar, app: RawApp) -> None:
    forged = {
        "X-Outrigger-Subject": "root", "x-outrigger-roles": "admin", "X-Outrigger-Anything": "1",
        "X_Outrigger_Subject": "root", "X-Email": "root@evil.example", "X_Email": "root@evil.example",
    }  # fmt: skip
    value = token(fresh(**READER))
    for path in ("/read/x", "/open/x"):
        sent = forged if path == "/open/x" else forged | bearer(value)
        assert (await fetch(running.inbound, path, headers=sent)).status == 200
        request = app.received[-1]
        values = [item for _, item in request.fields]
        assert not [item for item in values if item in (b"root", b"admin", b"root@evil.example")]
        assert request.values(b"x-outrigger-anything") == []
        known = path == "/read/x"
        assert request.values(b"x-outrigger-subject") == [b"jane"] * known
        assert request.values(b"x-outrigger-roles") == [b"reader"] * known
        assert request.values(b"x-outrigger-tenant") == [b"t1"] * known
        assert request.values(b"x-outrigger-issuer") == [b"main"] * known
        assert request.values(b"x-email") == [b"jane@shop.example"] * known
    line = await running.line_of("/read/x")
    assert "enduser.id" in line or line["http.response.status_code"] == 401


async def test_the_token_itself_goes_on_only_where_it_may(running: RunningSidecar, app: RawApp) -> None:
    value = token(fresh(tid="t1"))
    for path, seen in (("/hidden/x", []), ("/elsewhere", [b"Bearer " + value])):
        assert (await fetch(running.inbound, path, headers=bearer(value))).status == 200
        assert app.received[-1].values(b"authorization") == seen
        assert app.received[-1].values(b"x-outrigger-subject") == [b"jane"]


async def test_limits_count_by_subject(running: RunningSidecar) -> None:
    async def ask(subject: str) -> int:
        value = token(fresh(sub=subject, tid="t1"))
        return (await fetch(running.inbound, "/per-subject/x", headers=bearer(value))).status

    assert [await ask("jane") for _ in range(3)] == [200, 200, 429]
    assert [await ask("joe") for _ in range(3)] == [200, 200, 429]


async def test_nobody_can_go_on_guessing_tokens(running: RunningSidecar) -> None:
    async def ask(value: bytes) -> tuple[int, str, str]:
        answer = await fetch(running.inbound, "/guarded/x", headers=bearer(value))
        return answer.status, answer.code, answer.fields.get("x-ratelimit-limit", "")

    good = token(fresh(tid="t1"))
    assert [await ask(b"a.b.c"), await ask(good)] == [(401, "token_invalid", "4"), (200, "", "2")]
    assert [await ask(b"a.b.%d" % number) for number in range(3)] == [
        (401, "token_invalid", "4"), (401, "token_invalid", "4"), (429, "rate_limited", "4"),
    ]  # fmt: skip


async def test_addresses(running: RunningSidecar) -> None:
    for path in ("/denied/x", "/allowed/x"):
        answer = await fetch(running.inbound, path)
        assert (answer.status, answer.code) == (403, "ip_denied")


async def preflight(running: RunningSidecar, path: str, origin: str) -> Answer:
    sent = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    return await fetch(running.inbound, path, method="OPTIONS", headers=sent)


async def test_cors(running: RunningSidecar, app: RawApp) -> None:
    seen = len(app.received)
    answer = await preflight(running, "/cors/x", "https://shop.example")
    assert (answer.status, answer.origin) == (204, "agent")
    assert answer.fields["access-control-allow-origin"] == "https://shop.example"
    answer = await preflight(running, "/cors/x", "https://evil.example")
    assert (answer.status, answer.code) == (403, "cors_denied")
    assert len(app.received) == seen
    answer = await fetch(running.inbound, "/cors/x", headers={"Origin": "https://shop.example"})
    assert answer.status == 401
    assert answer.fields["access-control-allow-origin"] == "https://shop.example", "or the page can't read the 401"
    sent = {"Origin": "https://shop.example"} | bearer(token(fresh(tid="t1")))
    answer = await fetch(running.inbound, "/cors/x", headers=sent)
    lines = [line for line in answer.lines if line.lower().startswith("access-control-allow-origin")]
    assert [line.partition(": ")[2] for line in lines] == ["https://shop.example"]


@pytest.mark.parametrize("name", SHADOWS)
async def test_shadows_refuse_nothing_and_tell_everything(running: RunningSidecar, name: str) -> None:
    path = f"/shadow-{name}"
    if name == "cors":
        answers = [await preflight(running, f"{path}/x", "https://evil.example")]
    elif name == "concurrency":
        answers = list(await asyncio.gather(*(fetch(running.inbound, f"{path}/x") for _ in range(12))))
    else:
        sent = bearer(token(fresh(tid="t1"))) if name == "authorize" else {}
        await fetch(running.inbound, f"{path}/fails", headers=sent)
        answers = [await fetch(running.inbound, f"{path}/x", headers=sent) for _ in range(3)]
    for answer in answers:
        assert (answer.status, answer.origin) == (200, "app")
        assert not [field for field in answer.fields if field.startswith(("ratelimit", "x-ratelimit", "www-"))]
        assert answer.fields["access-control-allow-origin"] == "*", "the application's own stay as they are"
    counted = await running.metric(
        "outrigger_policy_shadow_denied_total", policy=name, route=f"shadow-{name}", code=CODES[name]
    )
    assert counted >= 1
    route, code = f"shadow-{name}", CODES[name]
    await until(
        lambda: any(line.get("outrigger.shadow") == code and line["outrigger.route"] == route for line in running.log())
    )


async def test_shadows_tell_the_first_refusal(running: RunningSidecar) -> None:
    now = time.time()
    sent = bearer(token(claims(iat=now - 9000, exp=now - 8000)))
    assert (await fetch(running.inbound, "/shadow-authorize/expired", headers=sent)).status == 200
    line = await running.line_of("/shadow-authorize/expired")
    assert line["outrigger.shadow"] == "token_expired"
    assert "exp" in line["outrigger.why"]
    assert "outrigger.reason" not in line
    told = {"route": "shadow-authorize", "code": "token_expired", "policy": "jwt"}
    assert await running.metric("outrigger_policy_shadow_denied_total", **told) == 1
    told = {"route": "shadow-authorize", "code": "token_missing"}
    assert await running.metric("outrigger_policy_shadow_denied_total", **told) == 0, "one request, one refusal"


class Keys:
    """A JWKS server that can rotate and die."""

    def __init__(self) -> None:
        self.names = ["k1"]
        self.fetches = 0
        self.is_up = True

    async def serve(self, request: web.Request) -> web.Response:
        self.fetches += 1
        if not self.is_up:
            raise web.HTTPInternalServerError
        return web.json_response(json.loads(jwks(*(jwk("RS256", name) for name in self.names))))


async def test_keys_rotate_and_survive_an_outage(app: RawApp) -> None:
    keys = Keys()
    web_app = web.Application()
    web_app.router.add_get("/jwks", keys.serve)
    runner = web.AppRunner(web_app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    issuer = {
        "issuer": claims()["iss"], "audiences": ["orders"], "jwks": {"url": f"http://127.0.0.1:{port}/jwks"},
        "refetch_min_interval_s": 1, "refresh_s": 1,
    }  # fmt: skip
    try:
        async with (
            sidecar({"app": {"url": app.url}, "issuers": {"main": issuer}}) as running,
            client(running.inbound) as one,
        ):

            async def ask(kid: str) -> str:
                answer = await one.request("GET", "/", bearer(token(fresh(jti=str(time.monotonic())), kid=kid)))
                return answer.code or str(answer.status)

            assert await ask("k1") == "200"
            keys.names = ["k2"]

            await asyncio.sleep(1.1)
            before = keys.fetches
            results = await asyncio.gather(*(
                fetch(running.inbound, "/", headers=bearer(token(fresh(jti=str(number)), kid="k2")))
                for number in range(20)
            ))  # fmt: skip
            assert {answer.status for answer in results} == {200}
            assert keys.fetches - before <= 2, "one refetch for all, beside the regular one"
            assert await ask("k1") == "token_invalid"
            keys.is_up = False
            await asyncio.sleep(1.5)
            assert await ask("k2") == "200", "the last good keys are used through an outage"
            fetches, began = keys.fetches, time.monotonic()
            for number in range(30):
                assert await ask(f"unknown-{number}") == "token_invalid"
            assert keys.fetches - fetches <= 2 * (time.monotonic() - began) + 3, "strangers can't make it fetch at will"
            await runner.cleanup()
            assert await ask("k2") == "200"
    finally:
        await runner.cleanup()
