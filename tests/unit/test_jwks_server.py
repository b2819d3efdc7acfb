"""Keys over real HTTP: OIDC discovery, and a provider that is killed, slow, huge, redirecting or lying."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.identity.issuer import Issuer, open_issuer
from agent.identity.keystore import FetchedKeys, Tools
from agent.policies.jwt import Jwt, Settings, Tokens
from agent.ports.policy import Deny, Need
from agent.telemetry.metrics import Registry
from tests.kit.head import request_head
from tests.kit.tls import make_authority
from tests.kit.tokens import WALL, claims, issuer_settings, jwk, jwks, token
from tests.kit.until import until

METADATA = "/realms/shop/.well-known/openid-configuration"
KEYS = "/realms/shop/keys"


class Provider:
    """An identity provider on a real port whose every answer can be replaced."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keys = jwks(jwk("RS256"))
        self.metadata: dict[str, Any] = {}
        self.replace: dict[str, web.Response] = {}
        self.stall = False
        app = web.Application()
        app.router.add_get("/{tail:.*}", self._answer)
        self.server = TestServer(app)
        self.port: int | None = None

    async def start(self) -> None:
        await self.server.start_server()
        self.port = self.server.port

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/realms/shop"

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.stall:
            await asyncio.sleep(60)
        if request.path in self.replace:
            return self.replace[request.path]
        if request.path == METADATA:
            document = {"issuer": self.issuer, "jwks_uri": f"http://127.0.0.1:{self.port}{KEYS}"} | self.metadata
            return web.json_response({name: value for name, value in document.items() if value is not ...})
        if request.path == KEYS:
            return web.Response(body=self.keys)
        return web.Response(status=404)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    await made.start()
    yield made
    await made.server.close()


class World:
    def __init__(self, **settings: Any) -> None:
        self.now = 0.0
        self.registry = Registry()
        usual: dict[str, Any] = {"jwks": {}, "timeout_s": 5}
        tools = Tools(clock=lambda: self.now)
        self.issuer: Issuer = open_issuer(
            "main", issuer_settings(**usual | settings), registry=self.registry, tools=tools
        )
        self.policy = Jwt(
            Settings(issuers=("main",)),
            route="r",
            registry=self.registry,
            tokens=Tokens([self.issuer], wall=lambda: WALL),
        )

    @property
    def keys(self) -> FetchedKeys:
        assert isinstance(self.issuer.keys, FetchedKeys)
        return self.issuer.keys

    async def ask(self, kid: str = "k1", **changed: Any) -> str:
        made = b"Bearer " + token(claims(iss=self.issuer.issuer, **changed), kid=kid)
        while True:
            verdict = self.policy.on_request(request_head(fields={b"authorization": made}), self.now)
            if not isinstance(verdict, Need):
                return verdict.refusal.code if isinstance(verdict, Deny) else ""
            await verdict.fact.fetch()

    def results(self) -> dict[str, int]:
        families = {family["name"]: family for family in self.registry.snapshot()["families"]}
        return {labels[1]: value for labels, value in families["outrigger_jwks_fetches_total"]["series"]}  # type: ignore[misc]


async def test_keys_are_discovered(provider: Provider) -> None:
    world = World(issuer=provider.issuer)
    assert await world.ask() == ""
    assert provider.asked == [METADATA, KEYS]
    world.now += 60
    await world.keys.refresh()
    assert provider.asked == [METADATA, KEYS, KEYS]


async def test_a_trailing_slash_of_the_issuer_is_kept_in_iss_only(provider: Provider) -> None:
    provider.metadata = {"issuer": provider.issuer + "/"}
    world = World(issuer=provider.issuer + "/")
    assert await world.ask() == ""
    assert provider.asked[0] == METADATA


@pytest.mark.parametrize(
    ("metadata", "result"),
    [
        ({"issuer": "https://evil.example"}, "foreign_issuer"),
        ({"issuer": "SLASH"}, "foreign_issuer"),
        ({"issuer": ...}, "foreign_issuer"),
        ({"issuer": ["x"]}, "foreign_issuer"),
        ({"jwks_uri": ...}, "garbage"),
        ({"jwks_uri": 7}, "garbage"),
        ({"jwks_uri": "file:///etc/passwd"}, "garbage"),
        ({"jwks_uri": "/keys"}, "garbage"),
        ({"jwks_uri": "https://user:pw@keys.example/"}, "garbage"),
        ({"jwks_uri": "http://keys.example/keys"}, "insecure"),
        ({"jwks_uri": "http://127.0.0.1:1/keys"}, "insecure"),
        ({"jwks_uri": "http://169.254.169.254/latest/meta-data"}, "insecure"),
        ({"jwks_uri": "http://localhost:PORT/realms/shop/keys"}, "insecure"),
    ],
    ids=str,
)
async def test_metadata_that_lies_is_refused(provider: Provider, metadata: dict[str, Any], result: str) -> None:
    fill = {"SLASH": provider.issuer + "/"}
    provider.metadata = {
        name: fill.get(value, value.replace("PORT", str(provider.port))) if isinstance(value, str) else value
        for name, value in metadata.items()
    }
    world = World(issuer=provider.issuer)
    assert await world.ask() == "keys_unavailable"
    assert (world.results(), provider.asked) == ({result: 1}, [METADATA])


async def test_metadata_that_turns_bad_later_keeps_the_known_address(provider: Provider) -> None:
    world = World(issuer=provider.issuer)
    assert await world.ask() == ""
    provider.metadata = {"issuer": "https://evil.example"}
    provider.keys = jwks(jwk("RS256"), jwk("RS256", "k2"))
    world.now += 4000
    assert await world.ask("k2") == ""
    assert provider.asked == [METADATA, KEYS, METADATA, KEYS]


async def test_keys_that_moved_are_found_again(provider: Provider) -> None:
    world = World(issuer=provider.issuer)
    assert await world.ask() == ""
    provider.metadata = {"jwks_uri": f"{provider.issuer}/moved"}
    provider.replace["/realms/shop/moved"] = web.Response(body=jwks(jwk("RS256", "k2")))
    provider.replace[KEYS] = web.Response(status=410)
    await world.keys.refresh()
    assert await world.ask() == ""
    await world.keys.refresh()
    assert await world.ask(jti="2") == "token_invalid"
    assert await world.ask("k2") == ""


async def test_a_provider_that_is_killed_and_comes_back(provider: Provider) -> None:
    world = World(issuer=provider.issuer, jwks={"url": f"{provider.issuer}/keys"})
    assert await world.ask() == ""
    await provider.server.close()
    world.now += 60
    assert await world.ask("k2") == "token_invalid"
    assert await world.ask(jti="2") == ""
    assert world.results() == {"ok": 1, "unreachable": 1}
    again = Provider()
    again.server = TestServer(again.server.app, port=provider.port)
    again.keys = jwks(jwk("RS256", "k2"))
    await again.start()
    world.now += 60
    assert await world.ask("k2") == ""
    assert await world.ask() == "token_invalid"
    await again.server.close()


async def test_a_provider_that_stalls_costs_its_time_out_only(provider: Provider) -> None:
    provider.stall = True
    world = World(issuer=provider.issuer, timeout_s=0.2)
    assert await world.ask() == "keys_unavailable"
    assert world.results() == {"timeout": 1}


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (lambda: web.Response(body=b"x" * 600_000), "too_large"),
        (lambda: web.Response(body=b"{" * 100_000), "garbage"),
        (lambda: web.Response(body=b"<html>"), "garbage"),
        (lambda: web.Response(body=jwks(jwk("RS256")), status=500), "status"),
        (lambda: web.Response(status=302, headers={"Location": "/other"}), "redirect"),
        (lambda: web.Response(status=307, headers={"Location": "http://169.254.169.254/"}), "redirect"),
    ],
    ids=range(6),
)
@pytest.mark.parametrize("where", [METADATA, KEYS])
async def test_answers_that_are_no_keys(provider: Provider, answer: Any, result: str, where: str) -> None:
    provider.replace[where] = answer()
    provider.replace["/other"] = web.Response(body=provider.keys)
    world = World(issuer=provider.issuer)
    assert await world.ask() == "keys_unavailable"
    assert world.results() == {result: 1}
    assert "/other" not in provider.asked
    assert len(provider.asked) == (1 if where == METADATA else 2)


async def test_where_a_token_points_is_never_asked(provider: Provider) -> None:
    world = World(issuer=provider.issuer, jwks={"url": f"{provider.issuer}/keys"})
    await world.keys.refresh()
    provider.asked.clear()
    world.now += 60
    evil = f"http://127.0.0.1:{provider.port}/evil"
    headers: list[dict[str, Any]] = [
        {"jku": evil}, {"x5u": evil}, {"jwk": jwk("RS256", "k2")}, {"kid": evil}, {"iss": evil},
    ]  # fmt: skip
    for header in headers:
        for iss in (world.issuer.issuer, evil):
            made = b"Bearer " + token(claims(iss=iss), header=header)
            verdict = world.policy.on_request(request_head(fields={b"authorization": made}), world.now)
            while isinstance(verdict, Need):
                await verdict.fact.fetch()
                verdict = world.policy.on_request(request_head(fields={b"authorization": made}), world.now)
            assert isinstance(verdict, Deny) or header == {"iss": evil}
    assert set(provider.asked) == {KEYS}
    assert len(provider.asked) == 1


async def test_keys_over_tls_with_a_private_authority(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=json.dumps({"keys": [jwk("RS256")]}))

    app = web.Application()
    app.router.add_get("/keys", answer)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=authority.server_context())
    url = f"https://127.0.0.1:{server.port}/keys"
    trusting = World(jwks={"url": url}, ca_file=str(authority.ca_file))
    strict = World(jwks={"url": url})
    assert (await trusting.ask(), await strict.ask()) == ("", "keys_unavailable")
    assert strict.results() == {"tls": 1}
    await server.close()


async def test_a_cold_start_heals_in_real_time() -> None:
    """With the real clock and the real pause: the first retry comes within a second."""
    provider = Provider()
    provider.server = TestServer(provider.server.app)
    await provider.start()
    provider.replace[KEYS] = web.Response(status=503)
    settings = issuer_settings(issuer=provider.issuer, jwks={"url": f"{provider.issuer}/keys"})
    issuer = open_issuer("main", settings, registry=Registry())
    issuer.start()
    await until(lambda: provider.asked)
    assert not issuer.keys.available
    del provider.replace[KEYS]
    async with asyncio.timeout(20):
        await until(lambda: issuer.keys.available)
    await issuer.stop()
    await provider.server.close()
