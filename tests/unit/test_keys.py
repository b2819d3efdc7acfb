"""When keys are fetched and what becomes of the old ones: a manual clock, a provider by hand, no waiting."""

import asyncio
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from agent.drivers.fetch import Fetched, FetchError, FetchTimeoutError
from agent.identity.issuer import Issuer, open_issuer
from agent.identity.keystore import MAX_ABSENT, FetchedKeys, Tools
from agent.policies.jwt import Jwt, Settings, Tokens
from agent.ports.policy import Deny, Need, Verdict
from agent.telemetry.metrics import Registry
from tests.kit.head import request_head
from tests.kit.tokens import ISSUER, WALL, issuer_settings, jwk, jwks, private_key, token
from tests.kit.until import until

URL = "https://sso.example/keys"
K1, K2 = jwk("RS256"), jwk("RS256", "k2")
Answer = bytes | int | FetchError


class Provider:
    """Answers what the test says, when the test says it."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.answer: Answer = jwks(*keys)
        self.calls: list[str] = []
        self.gate: asyncio.Event | None = None

    async def fetch(
        self,
        url: str,
        *,
        timeout_s: float,
        max_bytes: int,
        ca_file: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Fetched:
        assert (timeout_s, max_bytes, ca_file, headers) == (5.0, 524_288, None, ())
        self.calls.append(url)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, FetchError):
            raise self.answer
        return Fetched(self.answer, {}, b"") if isinstance(self.answer, int) else Fetched(200, {}, self.answer)


class World:
    """An issuer whose keys come from `provider`, and a policy that asks it."""

    def __init__(self, provider: Provider, **settings: Any) -> None:
        self.provider = provider
        self.now = 1000.0
        self.sleeps: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()
        self.registry = Registry()
        usual: dict[str, Any] = {"jwks": {"url": URL}}
        self.issuer = open_issuer(
            "main",
            issuer_settings(**usual | settings),
            registry=self.registry,
            fetch=provider.fetch,
            tools=Tools(clock=lambda: self.now, rng=random.Random(1), pause=self.pause, wall=lambda: WALL + self.now),
        )
        assert isinstance(self.issuer.keys, FetchedKeys)
        self.keys = self.issuer.keys
        tokens = Tokens([self.issuer], wall=lambda: WALL)
        self.policy = Jwt(Settings(issuers=("main",)), route="r", registry=self.registry, tokens=tokens)

    async def pause(self, delay_s: float) -> None:
        waker = asyncio.Event()
        self.sleeps.put_nowait((delay_s, waker))
        await waker.wait()

    async def sleep_through(self) -> float:
        """Let the background sleep its time, and say how long it was."""
        delay_s, waker = await self.sleeps.get()
        self.now += delay_s
        waker.set()
        return delay_s

    def judge(self, jws: bytes) -> Verdict:
        return self.policy.on_request(request_head(fields={b"authorization": b"Bearer " + jws}), self.now)

    async def ask(self, jws: bytes) -> str:
        """As the proxy does: wait for facts and ask again. Returns the code, "" where allowed."""
        for _ in range(3):
            verdict = self.judge(jws)
            if not isinstance(verdict, Need):
                return verdict.refusal.code if isinstance(verdict, Deny) else ""
            await verdict.fact.fetch()
        raise AssertionError("the policy goes on asking for facts")

    def count(self, name: str, label: str, value: str) -> int:
        return self.registry.counter(f"outrigger_jwks_{name}_total", "", ("issuer", label)).at("main", value)[0]

    def gauge(self, name: str) -> float:
        families = {family["name"]: family for family in self.registry.snapshot()["families"]}
        value = families[f"outrigger_jwks_{name}"]["series"][0][1]
        assert isinstance(value, int | float)
        return value


async def started(provider: Provider, **settings: Any) -> World:
    world = World(provider, **settings)
    await world.keys.refresh()
    return world


async def test_the_first_token_brings_the_keys() -> None:
    world = World(Provider(K1))
    assert not world.keys.available
    assert await world.ask(token()) == ""
    assert await world.ask(token(kid=None)) == ""
    assert (len(world.provider.calls), world.count("refetches", "reason", "no_keys")) == (1, 1)


async def test_many_first_tokens_share_one_fetch() -> None:
    provider = Provider(K1)
    provider.gate = asyncio.Event()
    world = World(provider)
    asking = [asyncio.create_task(world.ask(token())) for _ in range(100)]
    await until(lambda: provider.calls)
    provider.gate.set()
    assert set(await asyncio.gather(*asking)) == {""}
    assert (len(provider.calls), world.count("refetches", "reason", "no_keys")) == (1, 1)


async def test_a_new_identifier_gives_exactly_one_fetch() -> None:
    world = await started(Provider(K1))
    world.now += 60
    world.provider.answer = jwks(K1, K2)
    new = token(kid="k2")
    assert set(await asyncio.gather(*[world.ask(new) for _ in range(50)])) == {""}
    assert len(world.provider.calls) == 2
    assert world.count("refetches", "reason", "unknown_kid") == 1
    assert world.keys.generation == 0


async def test_a_new_identifier_within_the_interval_waits_for_its_end() -> None:
    world = await started(Provider(K1))
    world.provider.answer = jwks(K1, K2)
    assert await world.ask(token(kid="k2")) == "token_invalid"
    assert len(world.provider.calls) == 1
    world.now += 10
    assert await world.ask(token(kid="k2")) == ""


async def test_a_flood_of_forged_identifiers_costs_one_call_in_each_interval() -> None:
    world = await started(Provider(K1))
    template = json.dumps({"alg": "RS256", "kid": "KID"}).encode()
    codes = set()
    before = len(world.provider.calls)
    for index in range(10_000):
        kid = f"forged-{index}"
        world.now += 0.01
        header = template.replace(b"KID", kid.encode())
        if index % 500 == 0:
            codes.add(await world.ask(token(header=header, key=b"x")))
        fact = world.keys.need(kid)
        if fact is not None:
            await fact.fetch()
            assert world.keys.need(kid) is None
    assert codes == {"token_invalid"}
    assert 9 <= len(world.provider.calls) - before <= 10  # 100 s at one in 10 s
    assert len(world.keys._absent) <= MAX_ABSENT
    assert await world.ask(token()) == ""


async def test_an_identifier_that_was_looked_for_is_not_looked_for_again() -> None:
    world = await started(Provider(K1))
    for _ in range(20):
        world.now += 11
        assert await world.ask(token(kid="gone")) == "token_invalid"
    assert len(world.provider.calls) == 2
    await world.keys.refresh()
    world.now += 11
    world.provider.answer = jwks(K1, jwk("RS256", "gone"))
    assert await world.ask(token(kid="gone")) == ""


async def test_what_is_remembered_about_absent_identifiers_is_bounded() -> None:
    world = await started(Provider(K1))
    gate = world.provider.gate = asyncio.Event()
    world.now += 11
    asking = [
        asyncio.create_task(fact.fetch())
        for index in range(MAX_ABSENT + 500)
        if (fact := world.keys.need(f"forged-{index}")) is not None
    ]
    assert len(asking) == MAX_ABSENT + 500
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*asking)
    assert (len(world.keys._absent), len(world.provider.calls)) == (MAX_ABSENT, 2)


async def test_a_known_identifier_with_another_algorithm_is_no_reason_to_fetch() -> None:
    world = await started(Provider(K1), algorithms=["RS256", "ES256"])
    world.now += 60
    assert await world.ask(token(alg="ES256")) == "token_invalid"
    assert await world.ask(token(key=private_key("RS256", "k2"))) == "token_invalid"
    assert len(world.provider.calls) == 1


OUTAGES: list[tuple[Answer, str]] = [
    (FetchTimeoutError("no answer"), "timeout"),
    (500, "status"),
    (404, "status"),
    (204, "status"),
    (302, "redirect"),
    (b"", "garbage"),
    (b"<html>maintenance</html>", "garbage"),
    (b'{"keys":[]}', "garbage"),
    (b'{"keys":[{"kty":"RSA"}]}', "garbage"),
    (b"{}", "garbage"),
    (jwks(K1)[:-20], "garbage"),
    (jwks(K1 | {"use": "enc"}), "garbage"),
]


@pytest.mark.parametrize(("answer", "result"), OUTAGES, ids=range(len(OUTAGES)))
async def test_an_outage_or_garbage_never_replaces_good_keys(answer: Answer, result: str) -> None:
    """istio#58101."""
    world = await started(Provider(K1))
    good = token()
    assert await world.ask(good) == ""
    world.provider.answer = answer
    for _ in range(5):
        world.now += 300
        await world.keys.refresh()
        assert await world.ask(token(kid="k2")) == "token_invalid"
        assert await world.ask(token({**_claims(), "jti": str(world.now)})) == ""
    assert world.count("fetches", "result", result) == 5
    assert (world.keys.generation, world.keys.available, world.gauge("keys")) == (0, True, 1)
    assert world.gauge("age_seconds") == 1500
    world.provider.answer = jwks(K2)
    await world.keys.refresh()
    assert await world.ask(good) == "token_invalid"
    assert world.gauge("age_seconds") == 0


def _claims() -> dict[str, Any]:
    return {"iss": ISSUER, "aud": "orders", "sub": "jane", "exp": WALL + 600}


async def test_a_defect_in_a_source_does_not_end_the_refreshing(caplog: pytest.LogCaptureFixture) -> None:
    world = await started(Provider(K1))
    world.provider.answer = 1.5  # type: ignore[assignment]
    await world.keys.refresh()
    assert world.count("fetches", "result", "defect") + world.count("fetches", "result", "garbage") == 1
    assert await world.ask(token()) == ""
    assert "the last good keys stay in use" in caplog.text


async def test_a_key_that_goes_takes_its_tokens_with_it() -> None:
    world = await started(Provider(K1, K2))
    first, second = token(), token(kid="k2")
    assert (await world.ask(first), await world.ask(second)) == ("", "")
    world.provider.answer = jwks(K2)
    world.now += 300
    await world.keys.refresh()
    assert world.keys.generation == 1
    assert (await world.ask(first), await world.ask(second)) == ("token_invalid", "")


async def test_a_key_that_changes_takes_its_tokens_with_it() -> None:
    world = await started(Provider(K1))
    old = token()
    assert await world.ask(old) == ""
    world.provider.answer = jwks(jwk("RS256", "k2", kid="k1"))
    await world.keys.refresh()
    assert await world.ask(old) == "token_invalid"
    assert await world.ask(token(key=private_key("RS256", "k2"))) == ""


async def test_old_keys_end_after_stale_max() -> None:
    world = World(Provider(K1), stale_max_s=3600)
    world.issuer.start()
    remembered = token()
    await until(lambda: world.keys.available)
    assert await world.ask(remembered) == ""
    world.provider.answer = 503
    for _ in range(200):
        if not world.keys.available:
            break
        assert await world.ask(remembered) == ""
        assert await world.sleep_through() <= 300
    assert world.now - 1000 == pytest.approx(3600)
    assert world.keys.since == WALL + 1000, "since when they are there, not since the last try"
    await until(lambda: world.keys.generation > 0)
    assert (ended := world.keys.since) == WALL + world.now
    assert await world.ask(remembered) == "keys_unavailable"
    assert world.keys.lookup("k1", "RS256") is None
    assert world.gauge("keys") == 0
    world.provider.answer = jwks(K1)
    while not world.keys.available:
        await world.sleep_through()
        await asyncio.sleep(0)
    assert await world.ask(remembered) == ""
    assert ended < world.keys.since <= WALL + world.now
    await world.issuer.stop()


async def test_a_cold_start_while_the_provider_is_down_heals_by_itself() -> None:
    provider = Provider(K1)
    provider.answer = FetchTimeoutError("no answer")
    world = World(provider)
    world.issuer.start()
    assert await world.ask(token()) == "keys_unavailable"
    waits = [await world.sleep_through() for _ in range(12)]
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits[:6])), waits
    assert all(30 <= wait <= 60 for wait in waits[7:]), waits
    assert world.gauge("age_seconds") == pytest.approx(sum(waits))
    provider.answer = jwks(K1)
    while not world.keys.available:
        await world.sleep_through()
        await asyncio.sleep(0)
    assert await world.ask(token()) == ""
    await world.issuer.stop()


async def test_while_there_are_no_keys_tokens_cause_one_call_in_each_interval() -> None:
    world = World(Provider())
    for _ in range(100):
        assert await world.ask(token()) == "keys_unavailable"
        world.now += 1
    assert len(world.provider.calls) == 10


async def test_refreshes_come_before_the_period_ends_and_not_together() -> None:
    world = World(Provider(K1))
    world.issuer.start()
    waits = [await world.sleep_through() for _ in range(20)]
    assert all(240 <= wait <= 300 for wait in waits)
    assert len(set(waits)) == 20
    assert world.count("fetches", "result", "ok") == 20
    await world.issuer.stop()
    assert world.keys._task is None


async def test_stopping_ends_a_call_under_way_and_parks_nobody() -> None:
    provider = Provider(K1)
    provider.gate = asyncio.Event()
    world = World(provider)
    world.issuer.start()
    asking = asyncio.create_task(world.ask(token()))
    await until(lambda: provider.calls)
    await world.issuer.stop()
    assert await asyncio.wait_for(asking, 5) == "keys_unavailable"
    await world.issuer.stop()


async def test_a_client_that_goes_away_does_not_cancel_the_fetch_of_others() -> None:
    provider = Provider(K1)
    provider.gate = asyncio.Event()
    world = World(provider)
    gone, stays = (asyncio.create_task(world.ask(token())) for _ in range(2))
    await until(lambda: provider.calls)
    gone.cancel()
    await asyncio.wait({gone})
    provider.gate.set()
    assert (gone.cancelled(), await stays, len(provider.calls)) == (True, "", 1)


async def test_each_trouble_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    provider = Provider()
    provider.answer = 500
    world = World(provider)
    for _ in range(10):
        await world.keys.refresh()
    assert caplog.text.count("answered 500") == 1
    assert "there are no keys to use" in caplog.text


# Files


def write(path: Path, *keys: dict[str, Any]) -> None:
    """Swap the file as mounted secrets are: another inode."""
    new = path.with_suffix(".new")
    new.write_bytes(jwks(*keys))
    new.replace(path)


def file_world(path: Path) -> World:
    return World(Provider(), jwks={"file": str(path)})


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write(path, K1)
    world = file_world(path)
    await world.keys.refresh()
    first = token()
    assert await world.ask(first) == ""
    await world.keys.refresh()
    assert world.count("fetches", "result", "unchanged") == 1
    write(path, K2)
    await world.keys.refresh()
    assert (await world.ask(first), await world.ask(token(kid="k2"))) == ("token_invalid", "")
    assert world.provider.calls == []


async def test_a_file_is_looked_at_every_few_seconds(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write(path, K1)
    world = file_world(path)
    world.issuer.start()
    assert 4 <= await world.sleep_through() <= 5
    await world.issuer.stop()


@pytest.mark.parametrize("content", [b"", b"{", b'{"keys":[]}', b"x" * 600_000, None])
async def test_a_broken_file_keeps_the_keys_until_it_is_good_again(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys.json"
    write(path, K1)
    world = file_world(path)
    await world.keys.refresh()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    for _ in range(2):
        await world.keys.refresh()
        assert await world.ask(token()) == ""
    assert world.count("fetches", "result", "ok") == 1
    write(path, K2)
    await world.keys.refresh()
    assert await world.ask(token(kid="k2")) == ""


async def test_inline_keys_need_no_background() -> None:
    issuer: Issuer = open_issuer("main", issuer_settings(), registry=Registry())
    issuer.start()
    assert (issuer.keys.available, issuer.keys.need("other"), issuer.keys.generation) == (True, None, 0)
    await issuer.stop()
