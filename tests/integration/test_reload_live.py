"""Reload under load: no request fails, connections survive, counts stay, and a bad file changes nothing."""

import asyncio
import copy
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kit.apps import OK, Received, raw_app
from tests.kit.client import client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar

RELOADS = "outrigger_config_reloads_total"
NO_CA = """\
upstreams: {a: {targets: ["https://127.0.0.1:1"], tls: {ca_file: /nowhere.pem}}}
routes: [{name: a, upstream: a}]
"""


class Load:
    """Clients that ask without a pause over one keep-alive connection each."""

    def __init__(self, running: RunningSidecar, clients: int = 20) -> None:
        self.outcomes: Counter[str] = Counter()
        self._stop = asyncio.Event()
        self._work = [asyncio.ensure_future(self._client(running)) for _ in range(clients)]

    async def _client(self, running: RunningSidecar) -> None:
        async with client(running.inbound) as one:
            while not self._stop.is_set():
                answer = await one.request("GET", "/work/x")
                self.outcomes[answer.code or str(answer.status)] += 1
                assert not one.closed

    async def stop(self) -> Counter[str]:
        self._stop.set()
        await asyncio.gather(*self._work)
        return self.outcomes


async def reloaded(
    running: RunningSidecar, config: dict[str, Any], *, result: str = "applied", hup: bool = True
) -> None:
    """Write a configuration and wait until it was read."""
    before = await running.metric(RELOADS, result=result)
    await asyncio.to_thread(running.write, config)
    if hup:
        os.kill(running.pid, signal.SIGHUP)
    await running.until_metric(lambda value: value > before, RELOADS, result=result)


async def last_reload(running: RunningSidecar) -> dict[str, Any]:
    _, body = await running.admin("/config")
    report: dict[str, Any] = json.loads(body)["last_reload"]
    return report


def changed(config: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    new = copy.deepcopy(config)
    change(new)
    return new


@pytest.mark.parametrize("hup", [True, False], ids=["sighup", "file-change"])
async def test_no_request_fails_and_connections_survive(*, hup: bool) -> None:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(raw_app())
        route = {"name": "work", "match": {"path": "/work/**"}, "timeout_s": 5}
        config: dict[str, Any] = {
            "app": {"url": app.url}, "routes": [route], "reload": {"poll_s": 0.1, "debounce_s": 0.1},
        }  # fmt: skip
        running = await stack.enter_async_context(sidecar(config))
        load = Load(running)
        for turn in range(4 if hup else 2):

            def change(new: dict[str, Any], turn: int = turn) -> None:
                new["routes"][0]["timeout_s"] = 6 + turn

            await reloaded(running, changed(config, change), hup=hup)
            await asyncio.sleep(0.1)
        outcomes = await load.stop()
        assert outcomes.keys() == {"200"}
        assert app.connections <= 25, "the pool goes on with its connections"
        assert await running.metric("outrigger_connections_total") == 20
        assert await running.metric("outrigger_upstream_connections", upstream="app") >= 1
        assert await running.metric("outrigger_config_last_reload_successful") == 1
        assert (await last_reload(running))["result"] == "applied"


async def test_changes_take_effect_and_counts_stay() -> None:
    bad = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"

    def answer(request: Received) -> bytes:
        return bad if b"/bad" in request.line else OK

    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(raw_app(answer))
        limit = {"name": "ip", "limit": 3, "per_s": 60, "key": ["ip"]}
        config: dict[str, Any] = {
            "app": {"url": app.url},
            "upstreams": {"up": {"targets": [app.url], "circuit_breaker": {"min_requests": 2, "open_s": 60}}},
            "routes": [
                {"name": "limited", "match": {"path": "/limited"}, "rate_limits": [limit]},
                {"name": "breaks", "match": {"path": "/breaks/**"},
                 "circuit_breaker": {"min_requests": 2, "open_s": 60}},
                {"name": "up", "match": {"path": "/up/**"}, "upstream": "up"},
            ],
        }  # fmt: skip
        running = await stack.enter_async_context(sidecar(config))

        async def ask(path: str) -> str:
            answer = await fetch(running.inbound, path)
            return answer.code or str(answer.status)

        assert [await ask("/limited") for _ in range(2)] == ["200", "200"]
        assert [await ask("/breaks/bad") for _ in range(3)] == ["500", "500", "circuit_open"]
        assert [await ask("/up/bad") for _ in range(3)] == ["500", "500", "circuit_open"]

        def add(new: dict[str, Any]) -> None:
            new["routes"].insert(0, {"name": "new", "match": {"path": "/new/**"}, "ip": {"deny": ["127.0.0.1"]}})

        config = changed(config, add)
        assert await ask("/new/x") == "200"
        await reloaded(running, config)
        assert await ask("/new/x") == "ip_denied"
        assert [await ask("/limited") for _ in range(2)] == ["200", "rate_limited"]
        assert await ask("/breaks/x") == await ask("/up/x") == "circuit_open"
        assert await running.metric("outrigger_circuit_breaker_state", route="breaks") == 2

        def relax(new: dict[str, Any]) -> None:
            new["routes"][1]["rate_limits"][0]["limit"] = 5
            new["routes"][2]["circuit_breaker"]["min_requests"] = 3

        await reloaded(running, changed(config, relax))
        assert await ask("/limited") == "200", "another limit begins anew"
        assert await ask("/breaks/x") == "200", "another breaker too"
        assert await ask("/up/x") == "circuit_open"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "flow"),
        ("app: {url: 17}", "app.url"),
        ("app: {url: 'http://127.0.0.1:1'}\nroutes: [{name: a, upstream: nobody}]", "nobody"),
        ("app: {url: 'http://127.0.0.1:1'}\nunknown_key: 1", "unknown_key"),
        ("app: {url: '${NOT_SET_ANYWHERE}'}", "NOT_SET_ANYWHERE"),
        (
            "app: {url: 'http://127.0.0.1:1'}\nissuers: {a: {issuer: 'https://x', audiences: [a], jwks: {keys: [{}]}}}",
            "issuers.a",
        ),
        (NO_CA, "nowhere.pem"),
    ],
)
async def test_a_bad_file_is_refused_and_nothing_changes(text: str, told: str) -> None:
    async with raw_app() as app:
        config: dict[str, Any] = {"app": {"url": app.url}, "reload": {"watch": False}}
        async with sidecar(config) as running:
            load = Load(running, clients=3)
            await asyncio.to_thread(running.file.write_text, text)
            os.kill(running.pid, signal.SIGHUP)
            await running.until_metric(lambda value: value == 1, RELOADS, result="refused")
            report = await last_reload(running)
            assert report["result"] == "refused"
            assert told in report["error"]
            assert await running.metric("outrigger_config_last_reload_successful") == 0
            assert (await load.stop()).keys() == {"200"}
            assert await running.metric("outrigger_upstream_connections", upstream="app") >= 1
            await reloaded(running, config, result="unchanged")
            assert await running.metric("outrigger_config_last_reload_successful") == 1
            assert (await fetch(running.inbound, "/")).status == 200


async def test_a_pipe_in_place_of_a_file_holds_nothing_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with raw_app() as app, sidecar({"app": {"url": app.url}}) as running:
        good = running.file.read_text()
        running.file.unlink()
        os.mkfifo(running.file)
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        await running.until_metric(lambda count: count >= 1, RELOADS, result="refused")
        running.file.unlink()
        running.file.write_text(good + f'service: {{name: "${{file:{pipe}}}"}}\n')
        await running.until_metric(lambda count: count >= 2, RELOADS, result="refused")
        running.file.write_text(good + "service: {name: other}\n")
        await running.until_metric(lambda count: count >= 1, RELOADS, result="applied")
        assert await running.stop(wait_s=10) == 0


async def test_an_upstream_may_go_while_its_requests_are_in_flight() -> None:
    async def slow(_: Received) -> bytes:
        await asyncio.sleep(1)
        return OK

    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(raw_app())
        other = await stack.enter_async_context(raw_app(slow))
        config: dict[str, Any] = {
            "app": {"url": app.url},
            "upstreams": {"other": {"targets": [other.url]}, "stays": {"targets": [app.url]}},
            "routes": [{"name": "other", "match": {"path": "/other/**"}, "upstream": "other"}],
        }
        running = await stack.enter_async_context(sidecar(config))
        in_flight = [asyncio.ensure_future(fetch(running.inbound, "/other/x")) for _ in range(10)]
        in_flight += [
            asyncio.ensure_future(fetch(running.address("outbound"), "/v1/invoke/other/x")) for _ in range(10)
        ]
        await asyncio.sleep(0.3)

        def remove(new: dict[str, Any]) -> None:
            del new["upstreams"]["other"]
            new["routes"] = []

        await reloaded(running, changed(config, remove))
        assert (await fetch(running.inbound, "/other/x")).origin == "app"
        assert (await fetch(running.address("outbound"), "/v1/invoke/other/x")).code == "unknown_upstream"
        assert Counter(answer.status for answer in await asyncio.gather(*in_flight)) == {200: 20}
        _, metrics = await running.admin("/metrics")
        assert b'outrigger_upstream_connections{upstream="other"}' not in metrics
        assert b'outrigger_upstream_connections{upstream="stays"}' in metrics


async def test_what_needs_a_restart_is_said() -> None:
    async with raw_app() as app:
        config: dict[str, Any] = {"app": {"url": app.url}, "limits": {"head_fields": 50}}
        async with sidecar(config) as running:
            config["limits"]["head_fields"] = 60
            await reloaded(running, config)
            [warning] = (await last_reload(running))["warnings"]
            assert "limits" in warning
