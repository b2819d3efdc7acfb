"""Circuit breakers, rate limits and in-flight limits of routes, on a live sidecar."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kit.apps import OK, RawApp, Received, raw_app
from tests.kit.client import Answer, client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"
BREAKER = {"min_requests": 4, "failure_ratio": 0.5, "open_s": 1, "half_open": 2}
LIMIT = {"name": "per-ip", "limit": 3, "per_s": 60, "key": ["ip"]}

ROUTES = [
    {"name": "trips", "match": {"path": "/trips/**"}, "circuit_breaker": BREAKER},
    {"name": "leaves", "match": {"path": "/leaves/**"}, "circuit_breaker": BREAKER},
    {"name": "limited", "match": {"path": "/limited/**"}, "rate_limits": [LIMIT]},
    {"name": "bucket", "match": {"path": "/bucket/**"},
     "rate_limits": [{"name": "b", "limit": 100, "per_s": 10, "burst": 2, "algorithm": "token_bucket", "key": ["ip"]}]},
    {"name": "slots", "match": {"path": "/slots/**"},
     "concurrency": {"max_in_flight": 2, "max_queue": 2, "queue_timeout_s": 2}},
    {"name": "trial", "match": {"path": "/trial/**"}, "upstream": "strict",
     "concurrency": {"max_in_flight": 1, "max_queue": 0, "mode": "shadow"}},
    {"name": "impatient", "match": {"path": "/impatient/**"},
     "concurrency": {"max_in_flight": 1, "max_queue": 5, "queue_timeout_s": 0.2}},
]  # fmt: skip


async def by_path(request: Received) -> bytes:
    if b"/bad" in request.line:
        return BAD
    if b"/slow" in request.line:
        await asyncio.sleep(0.5)
    return OK


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app() -> AsyncIterator[RawApp]:
    async with raw_app(by_path) as app:
        yield app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(app: RawApp) -> AsyncIterator[RunningSidecar]:
    config = {
        "app": {"url": app.url},
        "upstreams": {"strict": {"targets": [app.url], "concurrency": {"max_in_flight": 2, "max_queue": 0}}},
        "routes": ROUTES,
        "trusted_proxies": ["127.0.0.1"],
    }
    async with sidecar(config) as running:
        yield running


async def state(running: RunningSidecar, route: str) -> float:
    return await running.metric("outrigger_circuit_breaker_state", route=route)


async def test_a_circuit_opens_probes_and_closes(running: RunningSidecar, app: RawApp) -> None:
    for _ in range(4):
        assert (await fetch(running.inbound, "/trips/bad")).status == 500
    assert await state(running, "trips") == 2
    seen = len(app.received)
    answer = await fetch(running.inbound, "/trips/good")
    assert (answer.status, answer.code, answer.origin) == (503, "circuit_open", "agent")
    assert answer.fields["retry-after"] == "1"
    assert len(app.received) == seen
    await asyncio.sleep(1.1)
    assert (await fetch(running.inbound, "/trips/good")).status == 200
    assert await state(running, "trips") == 1
    assert (await fetch(running.inbound, "/trips/bad")).status == 500, "a failed probe opens it again"
    assert (await fetch(running.inbound, "/trips/good")).code == "circuit_open"
    await asyncio.sleep(1.1)
    for _ in range(2):
        assert (await fetch(running.inbound, "/trips/good")).status == 200
    assert await state(running, "trips") == 0
    assert await running.metric("outrigger_circuit_breaker_rejected_total", route="trips") == 2


async def test_clients_that_leave_say_nothing_about_the_application(running: RunningSidecar) -> None:
    for _ in range(8):
        async with client(running.inbound) as one:
            one.writer.write(b"GET /leaves/slow HTTP/1.1\r\nHost: a\r\n\r\n")
            await one.writer.drain()
            await asyncio.sleep(0.05)
    line = await running.line_of("/leaves/slow")
    assert (line["http.response.status_code"], line["outrigger.reason"]) == (499, "client_gone")
    assert await state(running, "leaves") == 0
    assert (await fetch(running.inbound, "/leaves/good")).status == 200


@pytest.mark.parametrize("body", [b"", b"x"])
async def test_deadlines_of_clients_open_no_circuit_for_others(running: RunningSidecar, body: bytes) -> None:
    for _ in range(8):
        answer = await fetch(running.inbound, "/leaves/slow", headers={"X-Outrigger-Deadline-Ms": "1"}, body=body)
        assert (answer.status, answer.code) == (504, "timeout")
    assert await state(running, "leaves") == 0
    assert (await fetch(running.inbound, "/leaves/good")).status == 200


async def limited(running: RunningSidecar, client_ip: str, path: str = "/limited/x") -> Answer:
    return await fetch(running.inbound, path, headers={"X-Forwarded-For": client_ip})


async def test_a_rate_limit_tells_all_that_a_client_needs(running: RunningSidecar, app: RawApp) -> None:
    for left in (2, 1, 0):
        answer = await limited(running, "203.0.113.1")
        assert answer.status == 200
        assert answer.fields["ratelimit-policy"] == '"per-ip";q=3;w=60'
        assert answer.fields["ratelimit"].startswith(f'"per-ip";r={left};t=')
        assert answer.fields["x-ratelimit-limit"] == "3"
        assert answer.fields["x-ratelimit-remaining"] == str(left)
        assert 0 < int(answer.fields["x-ratelimit-reset"]) <= 66
    seen = len(app.received)
    answer = await limited(running, "203.0.113.1")
    assert (answer.status, answer.code, answer.origin) == (429, "rate_limited", "agent")
    assert 0 < int(answer.fields["retry-after"]) <= 66
    assert answer.fields["ratelimit"] == f'"per-ip";r=0;t={answer.fields["retry-after"]}'
    assert len(app.received) == seen
    names = [line.partition(":")[0].lower() for line in answer.lines]
    assert max(Counter(names).values()) == 1
    assert (await limited(running, "203.0.113.2")).status == 200, "another client behind the same proxy"
    assert (await limited(running, "evil, 203.0.113.1")).status == 429, "what a stranger wrote before is not believed"


async def test_retry_after_is_true(running: RunningSidecar) -> None:
    for _ in range(2):
        assert (await limited(running, "203.0.113.9", "/bucket/x")).status == 200
    refused = await limited(running, "203.0.113.9", "/bucket/x")
    assert refused.status == 429
    await asyncio.sleep(int(refused.fields["retry-after"]))
    assert (await limited(running, "203.0.113.9", "/bucket/x")).status == 200


async def test_excess_waits_and_beyond_the_queue_is_refused(running: RunningSidecar) -> None:
    began = time.monotonic()
    answers = await asyncio.gather(*(fetch(running.inbound, "/slots/slow") for _ in range(7)))
    statuses = Counter(answer.status for answer in answers)
    assert statuses == {200: 4, 503: 3}
    assert {answer.code for answer in answers if answer.status == 503} == {"overloaded"}
    assert all(answer.fields["retry-after"] == "1" for answer in answers if answer.status == 503)
    assert 0.9 <= time.monotonic() - began < 3
    assert await running.metric("outrigger_concurrency_shed_total", route="slots", reason="queue_full") == 3
    assert await running.metric("outrigger_concurrency_in_flight", route="slots") == 0


async def test_waiting_has_an_end(running: RunningSidecar) -> None:
    first = asyncio.ensure_future(fetch(running.inbound, "/impatient/slow"))
    await asyncio.sleep(0.1)
    answer = await fetch(running.inbound, "/impatient/x")
    assert (answer.status, answer.code) == (503, "overloaded")
    assert "queue_timeout_s" in (await running.line_of("/impatient/x"))["outrigger.why"]
    assert (await first).status == 200


async def test_who_leaves_the_line_frees_the_place(running: RunningSidecar, app: RawApp) -> None:
    busy = [asyncio.ensure_future(fetch(running.inbound, "/slots/slow")) for _ in range(2)]
    await asyncio.sleep(0.1)
    for _ in range(2):
        async with client(running.inbound) as one:
            one.writer.write(b"GET /slots/left HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.sleep(0.05)
    waiting = [asyncio.ensure_future(fetch(running.inbound, "/slots/x")) for _ in range(2)]
    assert {answer.status for answer in await asyncio.gather(*busy, *waiting)} == {200}
    assert not [request for request in app.received if b"/slots/left" in request.line]
    for name in ("in_flight", "queued"):
        assert await running.metric(f"outrigger_concurrency_{name}", route="slots") == 0


async def test_a_trial_on_a_route_does_not_replace_its_upstreams_own_limit(running: RunningSidecar) -> None:
    answers = await asyncio.gather(*(fetch(running.inbound, "/trial/slow") for _ in range(5)))
    assert Counter(answer.status for answer in answers) == {200: 2, 503: 3}
