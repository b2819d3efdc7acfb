"""Several targets: balanced, left out when they fail, tried in turn, followed through DNS."""

import asyncio
import socket
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from agent.core.address import Address, parse_address
from agent.proxy.cluster import Cluster, Target
from agent.proxy.pool import Pool
from agent.proxy.resolver import Resolver
from agent.telemetry.metrics import Registry
from tests.integration.test_failures import free_port
from tests.kit.apps import OK, RawApp, Received, raw_app
from tests.kit.client import client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.until import until

BAD = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"


async def apps(stack: AsyncExitStack, *answers: Any) -> list[RawApp]:
    return [await stack.enter_async_context(raw_app(answer)) for answer in answers]


async def ask_many(running: RunningSidecar, count: int, *, clients: int = 4) -> Counter[int]:
    statuses: Counter[int] = Counter()

    async def some() -> None:
        async with client(running.address("outbound")) as one:
            for _ in range(count // clients):
                statuses[(await one.request("GET", "/v1/invoke/all/x")).status] += 1

    await asyncio.gather(*(some() for _ in range(clients)))
    return statuses


def upstream(targets: list[RawApp], **settings: Any) -> dict[str, Any]:
    return {"upstreams": {"all": {"targets": [app.url for app in targets], **settings}}}


@pytest.mark.parametrize("balance", ["round_robin", "least_requests", "p2c_ewma"])
async def test_every_target_gets_its_share(balance: str) -> None:
    async with AsyncExitStack() as stack:
        targets = await apps(stack, OK, OK, OK)
        running = await stack.enter_async_context(sidecar(upstream(targets, balance=balance)))
        assert await ask_many(running, 600) == {200: 600}
        shares = [len(app.received) for app in targets]
    assert min(shares) >= (199 if balance == "round_robin" else 60)


async def test_a_slow_target_gets_less() -> None:
    async def slow(_: Received) -> bytes:
        await asyncio.sleep(0.05)
        return OK

    async with AsyncExitStack() as stack:
        targets = await apps(stack, slow, OK, OK)
        running = await stack.enter_async_context(sidecar(upstream(targets)))
        await ask_many(running, 400)
        assert len(targets[0].received) < 60


async def test_a_failing_target_is_left_out_and_comes_back() -> None:
    async with AsyncExitStack() as stack:
        targets = await apps(stack, BAD, OK, OK)
        outlier = {"consecutive_5xx": 3, "base_ejection_s": 1}
        running = await stack.enter_async_context(sidecar(upstream(targets, balance="round_robin", outlier=outlier)))
        statuses = await ask_many(running, 200)
        assert 3 <= statuses[500] <= 8
        assert await running.metric("outrigger_upstream_ejections_total", upstream="all") == 1
        targets[0].answer = lambda _: OK
        await asyncio.sleep(1.2)
        seen = len(targets[0].received)
        assert await ask_many(running, 60) == {200: 60}
        assert len(targets[0].received) >= seen + 15


async def test_never_are_all_targets_left_out() -> None:
    async with AsyncExitStack() as stack:
        targets = await apps(stack, BAD, BAD, BAD)
        running = await stack.enter_async_context(
            sidecar(
                upstream(targets, balance="round_robin", outlier={"consecutive_5xx": 1, "max_ejection_percent": 100})
            )
        )
        assert await ask_many(running, 100) == {500: 100}
        assert await running.metric("outrigger_upstream_ejections_total", upstream="all") == 2


async def test_a_retry_goes_to_another_target() -> None:
    async with AsyncExitStack() as stack:
        [good] = await apps(stack, OK)
        [bad] = await apps(stack, b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
        dead = f"http://127.0.0.1:{free_port()}"
        config: dict[str, Any] = {
            "upstreams": {
                "all": {
                    "targets": [dead, bad.url, good.url],
                    "balance": "round_robin",
                    "retry": {"attempts": 3, "budget": {"min_per_s": 1000}, "backoff_s": 0.001},
                    "outlier": {"consecutive_5xx": 0},
                }
            }
        }
        running = await stack.enter_async_context(sidecar(config))
        assert await ask_many(running, 90, clients=3) == {200: 90}
        assert len(good.received) == 90
        line = (await running.access_log(90))[-1]
        assert line["outrigger.upstream.address"] == good.url


async def test_an_upstreams_breaker_opens_for_all_who_call_it() -> None:
    async with AsyncExitStack() as stack:
        [bad] = await apps(stack, BAD)
        config = upstream([bad], circuit_breaker={"min_requests": 5, "open_s": 30})
        config["routes"] = [{"name": "all", "match": {"path": "/all/**"}, "upstream": "all"}]
        running = await stack.enter_async_context(sidecar(config))
        for _ in range(5):
            assert (await fetch(running.address("outbound"), "/v1/invoke/all/x")).status == 500
        for answer in (
            await fetch(running.address("outbound"), "/v1/invoke/all/x"),
            await fetch(running.inbound, "/all/x"),
        ):
            assert (answer.status, answer.code) == (503, "circuit_open")
            assert 1 <= int(answer.fields["retry-after"]) <= 30
        assert len(bad.received) == 5


async def test_sticky_keys_stay_when_a_target_goes() -> None:
    async with AsyncExitStack() as stack:
        targets = await apps(
            stack, *(f"HTTP/1.1 200 OK\r\nx-by: {n}\r\ncontent-length: 0\r\n\r\n".encode() for n in "abc")
        )
        settings = {"balance": "sticky", "sticky_by": "cookie:session", "retry": {"attempts": 2, "on": ["connect"]}}
        running = await stack.enter_async_context(sidecar(upstream(targets, **settings)))

        async def by(session: int) -> str:
            fields = {"Cookie": f"a=b; session={session}"}
            answer = await fetch(running.address("outbound"), "/v1/invoke/all/x", headers=fields)
            return answer.fields["x-by"]

        before = {session: await by(session) for session in range(30)}
        assert before == {session: await by(session) for session in range(30)}
        assert set(before.values()) == {"a", "b", "c"}
        await targets[0].stop()
        after = {session: await by(session) for session in range(30)}
        assert all(after[session] == way for session, way in before.items() if way != "a")
        assert "a" not in after.values()


class FakeDns:
    """Stands in for the loop's `getaddrinfo`."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    async def __call__(self, host: str, port: int, **_: object) -> list[Any]:
        self.asked += 1
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


class FakePool:
    def __init__(self) -> None:
        self.closed = False
        self.hold = None

    def close(self) -> None:
        self.closed = True


async def test_a_cluster_follows_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = FakeDns("10.0.0.1", "10.0.0.2")
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", dns)
    cluster = Cluster("inventory", "upstream", Registry())
    pools: dict[str, FakePool] = {}
    named: list[Address] = []

    def make(address: Address, name: Address) -> Target:
        pools[address.host] = pool = FakePool()
        named.append(name)
        return Target(address, pool, cluster)  # type: ignore[arg-type]

    addresses = [parse_address("http://inventory.internal:81"), parse_address("http://10.9.9.9:82")]
    cluster.use([make(address, address) for address in addresses])
    complaints: list[str] = []
    resolver = Resolver(cluster, addresses, make, 0.05, complaints.append)
    resolver.start()

    def hosts() -> list[str]:
        return sorted(f"{target.address.host}:{target.address.port}" for target in cluster.targets)

    try:
        await until(lambda: hosts() == ["10.0.0.1:81", "10.0.0.2:81", "10.9.9.9:82"])
        assert pools["inventory.internal"].closed
        kept = {target.address.host: target for target in cluster.targets}
        dns.addresses = ["10.0.0.2", "10.0.0.3"]
        await until(lambda: hosts() == ["10.0.0.2:81", "10.0.0.3:81", "10.9.9.9:82"])
        now = {target.address.host: target for target in cluster.targets}
        assert now["10.0.0.2"] is kept["10.0.0.2"], "an address that stays keeps its connections and statistics"
        assert now["10.9.9.9"] is kept["10.9.9.9"]
        assert pools["10.0.0.1"].closed
        assert not pools["10.0.0.2"].closed
        assert named[-1] == addresses[0], "TLS and Host go by the name, whatever it resolves to"
        dns.addresses = []
        asked = dns.asked
        await until(lambda: dns.asked > asked + 1 and complaints)
        assert hosts() == ["10.0.0.2:81", "10.0.0.3:81", "10.9.9.9:82"], "a failed look-up changes nothing"
        assert "inventory.internal doesn't resolve" in complaints[0]
    finally:
        resolver.stop()


def test_pools_have_what_the_double_has() -> None:
    assert all(hasattr(Pool, name) for name in ("close", "hold"))
