"""What a request leaves behind: its log line, its trace, its metrics; and explanations that come true."""

import asyncio
import itertools
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.kit.apps import OK, RawApp, Received, ask, raw_app
from tests.kit.client import client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.tokens import claims, jwk, token
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "SEARCH", "REPORT")


def by_path(request: Received) -> bytes:
    found = re.search(rb"/status/(\d+)", request.line)
    if found:
        return b"HTTP/1.1 %b X\r\ncontent-length: 0\r\n\r\n" % found[1]
    return OK


ROUTES: list[dict[str, Any]] = [
    {"name": "orders", "match": {"path": "/orders/{id}/**", "methods": ["GET", "POST"]},
     "auth": {"roles": {"any": ["reader"]}},
     "rate_limits": [{"name": "s", "limit": 1000, "per_s": 60}]},
    {"name": "admins", "match": {"path": "/admins/**"}, "auth": {"roles": {"any": ["admin"]}}},
    {"name": "tight", "match": {"path": "/tight/**"}, "auth": "none",
     "rate_limits": [{"name": "t", "limit": 1, "per_s": 600, "key": ["global"]}]},
    {"name": "broken", "match": {"path": "/broken/**"}, "auth": "none",
     "circuit_breaker": {"min_requests": 1, "open_s": 600}},
    {"name": "walled", "match": {"path": "/walled/**"}, "auth": "none", "ip": {"allow": ["10.0.0.0/8"]}},
    {"name": "cors", "match": {"path": "/cors/**", "methods": ["GET"]}, "auth": "none",
     "cors": {"allow_origins": ["https://shop.example"]}},
    {"name": "beta", "match": {"path": "/flags/**", "headers": {"x-beta": "1"}, "host": "beta.example"},
     "auth": "none"},
    {"name": "trial", "match": {"path": "/trial/**"}, "auth": "none", "ip": {"deny": ["127.0.0.1"], "mode": "shadow"}},
    {"name": "open", "match": {"path": "/open/**"}, "auth": "none"},
    {"name": "quiet", "match": {"path": "/quiet/**"}, "auth": "none", "access_log": False},
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app() -> AsyncIterator[RawApp]:
    async with raw_app(by_path) as app:
        yield app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(app: RawApp) -> AsyncIterator[RunningSidecar]:
    issuer = {
        "issuer": claims()["iss"], "audiences": ["orders"], "jwks": {"keys": [jwk("RS256")]},
        "roles_from": ["roles"], "tenant_from": "tid",
    }  # fmt: skip
    config = {
        "service": {"name": "shop", "version": "1.2"},
        "app": {"url": app.url},
        "issuers": {"main": issuer},
        "routes": ROUTES,
        "trusted_proxies": ["127.0.0.1"],
        "telemetry": {"metrics": {"max_series": 300}, "traces": {"sample_ratio": 0}},
    }
    async with sidecar(config) as running:
        yield running


def bearer(**changed: Any) -> str:
    now = time.time()
    payload = claims(**({"iat": now - 5, "exp": now + 600, "roles": ["reader"], "tid": "t1"} | changed))
    return f"Bearer {token(payload).decode()}"


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_a_log_line_says_everything(running: RunningSidecar, app: RawApp) -> None:
    sent = {
        "Authorization": bearer(),
        "X-Forwarded-For": "203.0.113.7",
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    }
    began = time.time()
    await fetch(running.inbound, "/orders/7/lines?secret=1", method="POST", headers=sent, body=b"abcde")
    line = await running.line_of("/orders/7/lines")
    duration, upstream = line.pop("http.server.request.duration"), line.pop("outrigger.upstream.duration")
    waited = line.pop("outrigger.wait.duration", 0)  # a new connection may take its time
    assert 0 < upstream <= duration - waited + 2e-6 < 5
    moment = line.pop("time")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
    assert abs(time.mktime(time.strptime(moment[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone - began) < 5
    forwarded = app.received[-1].values(b"traceparent")[0].decode().split("-")
    assert line.pop("span_id") == forwarded[2]
    assert line == {
        "level": "info",
        "service": "shop",
        "http.request.method": "POST",
        "outrigger.route": "orders",
        "http.response.status_code": 200,
        "outrigger.origin": "app",
        "outrigger.upstream.address": app.url,
        "outrigger.direction": "inbound",
        "trace_id": TRACE,
        "client.address": "203.0.113.7",
        "url.path": "/orders/7/lines",
        "enduser.id": "jane",
        "outrigger.tenant": "t1",
        "http.request.body.size": 5,
        "http.response.body.size": 2,
    }


async def test_a_refusals_line_says_why(running: RunningSidecar) -> None:
    await fetch(running.inbound, "/orders/8/x", headers={"Authorization": bearer(roles=["writer"])})
    line = await running.line_of("/orders/8/x")
    assert (line["outrigger.reason"], line["outrigger.origin"], line["level"]) == ("role_missing", "agent", "info")
    assert "reader" in line["outrigger.why"]
    assert "outrigger.upstream.address" not in line
    assert "outrigger.upstream.duration" not in line


@pytest.mark.parametrize(
    ("sent", "code", "told"),
    [
        (b"GET /r1 b HTTP/1.1\r\n\r\n", "malformed_request", ("GET", "/r1")),
        (b"GET /r2/%2f?secret HTTP/1.1\r\nHost: a\r\n\r\n", "bad_path", ("GET", "/r2/%2f")),
        (b"CONNECT r3:443 HTTP/1.1\r\nHost: r3:443\r\n\r\n", "method_not_supported", ("CONNECT", "r3:443")),
        (b"\x16\x03\x01", "malformed_request", (None, None)),
    ],
)
async def test_bytes_that_are_no_request_leave_a_line(
    running: RunningSidecar, sent: bytes, code: str, told: tuple[str | None, str | None]
) -> None:
    answer = await ask(running.inbound, sent)

    def found() -> list[dict[str, Any]]:
        here = [line for line in running.log() if line.get("outrigger.reason") == code]
        return [line for line in here if (line.get("http.request.method"), line.get("url.path")) == told]

    await until(lambda: bool(found()))
    line = found()[0]
    assert re.fullmatch("[0-9a-f]{32}", line.pop("trace_id"))
    assert re.fullmatch("[0-9a-f]{16}", line.pop("span_id"))
    assert line.pop("http.response.body.size") == len(answer.partition(b"\r\n\r\n")[2]) > 50
    assert line.pop("http.response.status_code") == int(answer.split()[1])
    assert line.pop("outrigger.why")
    assert line.keys() - {"http.request.method", "url.path"} == {
        "time", "level", "service", "outrigger.reason", "outrigger.origin", "outrigger.direction", "client.address",
        "http.request.body.size",
    }  # fmt: skip


async def test_a_route_may_keep_its_silence(running: RunningSidecar) -> None:
    await fetch(running.inbound, "/quiet/x")
    await fetch(running.inbound, "/open/after-quiet")
    await running.line_of("/open/after-quiet")
    assert not [line for line in running.log() if line.get("url.path") == "/quiet/x"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": "a=1,b=2"}, True),
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-00"}, True),
        ({"traceparent": f"cc-{TRACE}-00f067aa0ba902b7-01-what-the-future-holds"}, True),
        ({}, False),
        ({"traceparent": f"00-{TRACE.upper()}-00f067aa0ba902b7-01", "tracestate": "a=1"}, False),
        ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, False),
        ({"traceparent": f"00-{TRACE}-{'0' * 16}-01"}, False),
        ({"traceparent": f"ff-{TRACE}-00f067aa0ba902b7-01"}, False),
        ({"traceparent": "nonsense"}, False),
    ],
)
async def test_traces(running: RunningSidecar, app: RawApp, sent: dict[str, str], *, kept: bool) -> None:
    await fetch(running.inbound, "/open/trace", headers=sent)
    request = app.received[-1]
    [value] = request.values(b"traceparent")
    version, trace_id, span_id, flags = value.decode().split("-")
    assert version == "00"
    assert (trace_id == TRACE) is kept
    assert span_id not in ("00f067aa0ba902b7", "0" * 16)
    assert request.values(b"tracestate") == ([b"a=1,b=2"] if kept and "tracestate" in sent else [])
    assert int(flags, 16) & 1 == (kept and sent["traceparent"].split("-")[3] == "01")


async def test_both_expositions_parse_and_agree(running: RunningSidecar) -> None:
    await fetch(running.inbound, "/open/x")
    _, text = await running.admin("/metrics")
    families = {family.name: family for family in parse_text(text.decode())}
    accept = "accept: application/openmetrics-text; version=1.0.0\r\n"
    raw = await ask(
        running.address("admin"),
        f"GET /metrics HTTP/1.1\r\nhost: localhost\r\n{accept}connection: close\r\n\r\n".encode(),
    )
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"application/openmetrics-text" in head
    if b"chunked" in head.lower():
        body = b"".join(re.split(rb"\r\n[0-9a-f]+\r\n|^[0-9a-f]+\r\n", body))
    named = {family.name: family for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]
    assert families.keys() >= {"http_server_request_duration_seconds", "outrigger_refusals"}
    assert families.keys() - named.keys() <= {"target_info"}
    [info] = named["target"].samples
    assert info.labels["service_name"] == "shop"
    for family in families.values():
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram", "info"), family.name


def durations(text: bytes, **labels: str) -> dict[str, float]:
    """`le` → cumulated count of the request histogram."""
    buckets = {}
    for family in parse_text(text.decode()):
        for sample in family.samples:
            if sample.name == "http_server_request_duration_seconds_bucket" and labels.items() <= sample.labels.items():
                buckets[sample.labels["le"]] = sample.value
    return buckets


async def test_durations_below_a_millisecond_have_buckets_of_their_own(running: RunningSidecar) -> None:
    async with client(running.inbound) as one:
        for _ in range(200):
            assert (await one.request("GET", "/tight/x")).status in (200, 429)  # refused ones are the fastest
    _, text = await running.admin("/metrics")
    buckets = durations(text, http_route="/tight/**", http_response_status_code="429")
    assert buckets["+Inf"] == 199
    assert buckets["0.001"] > 100
    assert len([bound for bound in buckets if float(bound) < 0.001]) >= 3


async def test_series_stay_bounded_and_no_raw_path_gets_out(running: RunningSidecar) -> None:
    statuses = itertools.cycle(range(200, 600))
    count = itertools.count()

    async def some() -> None:
        async with client(running.inbound) as one:
            for number in itertools.islice(count, 250):
                method = METHODS[number % len(METHODS)]
                path = f"/open/raw-path-{number}/status/{next(statuses)}"
                await one.request(method, path, {"X-Beta": str(number), "Host": f"h{number}.example"})
                if one.closed:
                    break

    await asyncio.gather(*(some() for _ in range(40)))
    assert next(count) >= 10_000
    _, text = await running.admin("/metrics")
    assert b"raw-path" not in text
    series = await running.metric("outrigger_metrics_series")
    assert 0 < series <= 300
    lines = [
        line for line in text.decode().splitlines() if line.startswith("http_server_request_duration_seconds_count")
    ]
    total = sum(float(line.rpartition(" ")[2]) for line in lines)
    assert total >= 10_000, "what has no series of its own is counted in the overflow series"
    assert any("__overflow__" in line for line in lines)


CORPUS: list[dict[str, Any]] = [
    {"url": "/open/x"},
    {"url": "/open/%2e%2e/admins/x"},
    {"url": "/open/../admins/x"},
    {"url": "/open/a%2fb"},
    {"url": "/open//x"},
    {"url": "/open/a\\b"},
    {"url": "/open/x;a=b"},
    {"url": "/orders/7/x"},
    {"url": "/orders/7/x", "role": "reader"},
    {"url": "/orders/7/x", "role": "writer"},
    {"url": "/orders/7/x", "role": "reader", "method": "POST"},
    {"url": "/orders/7/x", "role": "reader", "method": "DELETE"},
    {"url": "/admins/x", "role": "reader"},
    {"url": "/admins/x", "role": "admin"},
    {"url": "/admins/x", "headers": {"Authorization": "Bearer x.y.z"}},
    {"url": "/admins/x", "headers": {"Authorization": "Basic abc"}},
    {"url": "/tight/x"},
    {"url": "/broken/x"},
    {"url": "/walled/x"},
    {"url": "/walled/x", "client_ip": "10.1.2.3"},
    {"url": "/trial/x"},
    {"url": "/cors/x", "method": "OPTIONS",
     "headers": {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}},
    {"url": "/cors/x", "method": "OPTIONS",
     "headers": {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}},
    {"url": "/flags/x", "headers": {"X-Beta": "1", "Host": "beta.example"}},
    {"url": "/flags/x", "headers": {"X-Beta": "1"}},
    {"url": "/nowhere"},
    {"url": "/nowhere", "role": "reader"},
    {"url": "/open/x", "method": "TRACE"},
    {"url": "/open/x", "headers": {"Expect": "nonsense"}},
]  # fmt: skip


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: json.dumps(case)[:60])
async def test_an_explanation_comes_true(running: RunningSidecar, case: dict[str, Any]) -> None:
    if case["url"] == "/broken/x":
        await fetch(running.inbound, "/broken/status/500")
    if case["url"] == "/tight/x":
        await fetch(running.inbound, "/tight/first")
    headers = dict(case.get("headers", {}))
    if "role" in case:
        headers["Authorization"] = bearer(roles=[case["role"]])
    question = {"method": case.get("method", "GET"), "url": case["url"], "headers": headers}
    question |= {"client_ip": case["client_ip"]} if "client_ip" in case else {}
    status, body = await running.admin("/explain", question)
    assert status == 200, body
    said = json.loads(body)
    seen = len(routes_of(running, said))
    sent = headers | ({"X-Forwarded-For": case["client_ip"]} if "client_ip" in case else {})
    answer = await fetch(running.inbound, case["url"], method=question["method"], headers=sent)
    assert (said["verdict"] == "allow") == (answer.origin == "app"), (said, answer)
    if said["verdict"] == "deny":
        assert said["answer"]["status"] == answer.status
        assert answer.code in ("", said["answer"]["code"])
        assert answer.code or answer.status == 204
    else:
        await until(lambda: len(routes_of(running, said)) > seen)
        assert routes_of(running, said)[-1] == said["route"]


def routes_of(running: RunningSidecar, said: dict[str, Any]) -> list[str]:
    """Routes of the logged requests to the path that an explanation leads to."""
    path = said.get("leads_to", {}).get("path")
    return [line["outrigger.route"] for line in running.log() if path and line.get("url.path") == path]


async def test_asking_changes_nothing(running: RunningSidecar) -> None:
    before = await running.metric("outrigger_rate_limit_decisions_total", limit="s", route="orders", decision="allowed")
    for _ in range(20):
        question = {"url": "/orders/7/x", "headers": {"Authorization": bearer()}}
        assert json.loads((await running.admin("/explain", question))[1])["verdict"] == "allow"
    after = await running.metric("outrigger_rate_limit_decisions_total", limit="s", route="orders", decision="allowed")
    assert after == before
