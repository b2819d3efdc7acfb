"""Gateway mode: what a route matches, what it rewrites, and where its traffic goes."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.kit.apps import RawApp, Received, raw_app
from tests.kit.client import Answer, client, fetch
from tests.kit.sidecar import RunningSidecar, sidecar

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = ("host", "wild", "item", "post", "beta", "query", "strip", "add", "path", "fields", "a", "b", "kept")


def named(name: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nx-by: {name}\r\nx-secret: s\r\nserver: app\r\ncontent-length: 0\r\n\r\n".encode()


ROUTES = [
    {"name": "host", "match": {"host": "api.example"}, "upstream": "host"},
    {"name": "wild", "match": {"host": "*.wild.example"}, "upstream": "wild"},
    {"name": "item", "match": {"path": "/orders/{id}/items/*"}, "upstream": "item"},
    {"name": "post", "match": {"path": "/orders/**", "methods": ["POST"]}, "upstream": "post"},
    {"name": "beta", "match": {"path": "/orders/**", "headers": {"x-beta": "1"}}, "upstream": "beta"},
    {"name": "query", "match": {"path": "/orders/**", "query": {"v": "2"}}, "upstream": "query"},
    {
        "name": "strip", "match": {"path": "/strip/**"}, "upstream": "strip",
        "rewrite": {"strip_prefix": "/strip", "add_prefix": "/v2"},
    },
    {"name": "add", "match": {"path": "/add/**"}, "upstream": "add", "rewrite": {"add_prefix": "/deep/er"}},
    {
        "name": "path", "match": {"path": "/from/{id}/**"}, "upstream": "path",
        "rewrite": {"path": "/to/{id}/**"},
    },
    {
        "name": "fields", "match": {"path": "/fields/**"}, "upstream": "fields",
        "rewrite": {
            "set_headers": {"x-from": "gateway"}, "add_headers": {"x-more": "2"}, "remove_headers": ["cookie"],
            "host": "inner.example",
            "response_set_headers": {"x-gateway": "1"}, "response_remove_headers": ["x-secret"],
        },
    },
    {"name": "kept", "match": {"path": "/kept/**"}, "upstream": "kept"},
    {
        "name": "split", "match": {"path": "/split/**"},
        "split": [{"upstream": "a", "weight": 80}, {"upstream": "b", "weight": 20}],
    },
    {
        "name": "sticky", "match": {"path": "/sticky/**"}, "sticky_by": "header:x-user",
        "split": [{"upstream": "a", "weight": 50}, {"upstream": "b", "weight": 50}],
    },
    {"name": "none", "match": {"path": "/weight/**"},
     "split": [{"upstream": "a", "weight": 0}, {"upstream": "b", "weight": 1}]},
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apps() -> AsyncIterator[dict[str, RawApp]]:
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(raw_app(named(name))) for name in NAMES}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(apps: dict[str, RawApp]) -> AsyncIterator[RunningSidecar]:
    upstreams: dict[str, dict[str, object]] = {name: {"targets": [app.url]} for name, app in apps.items()}
    upstreams["kept"]["preserve_host"] = True
    async with sidecar({"upstreams": upstreams, "routes": ROUTES}) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "headers", "by"),
    [
        ("GET", "/x", {"Host": "api.example"}, "host"),
        ("GET", "/x", {"Host": "API.example:80"}, "host"),
        ("GET", "/x", {"Host": "a.b.wild.example"}, "wild"),
        ("GET", "/x", {"Host": "wild.example"}, ""),
        ("GET", "/orders/7/items/3", {}, "item"),
        ("GET", "/orders/7/items/3?a=b", {}, "item"),
        ("GET", "/orders/7/items", {}, ""),
        ("GET", "/orders/7/items/3/more", {}, ""),
        ("POST", "/orders/7", {}, "post"),
        ("POST", "/orders", {}, "post"),
        ("GET", "/orders/7", {"X-Beta": "1"}, "beta"),
        ("GET", "/orders/7", {"X-Beta": "2"}, ""),
        ("GET", "/orders/7?v=2", {}, "query"),
        ("GET", "/orders/7?v=%32&v=2", {}, "query"),
        ("GET", "/orders/7?v=1", {}, ""),
        ("GET", "/elsewhere", {}, ""),
    ],
)
async def test_what_a_route_matches(
    running: RunningSidecar, method: str, path: str, headers: dict[str, str], by: str
) -> None:
    answer = await fetch(running.inbound, path, method=method, headers=headers)
    if by:
        assert (answer.status, answer.fields["x-by"], answer.origin) == (200, by, "upstream")
    else:
        assert (answer.status, answer.code, answer.origin) == (404, "no_route", "agent")


@pytest.mark.parametrize("query", ["v=%32&v=1", "v=1&v=2", "v=2&%76=1"])
async def test_a_parameter_that_leads_to_two_routes_is_refused(running: RunningSidecar, query: str) -> None:
    answer = await fetch(running.inbound, f"/orders/7?{query}")
    assert (answer.status, answer.code, answer.origin) == (400, "bad_path", "agent")


@pytest.mark.parametrize(
    ("path", "by", "sent"),
    [
        ("/strip/search?q=1", "strip", "/v2/search?q=1"),
        ("/strip", "strip", "/v2/"),
        ("/strip/", "strip", "/v2/"),
        ("/add/x", "add", "/deep/er/add/x"),
        ("/from/7/a/b", "path", "/to/7/a/b"),
        ("/fields/x", "fields", "/fields/x"),
    ],
)
async def test_paths_are_rewritten(
    running: RunningSidecar, apps: dict[str, RawApp], path: str, by: str, sent: str
) -> None:
    await fetch(running.inbound, path)
    assert apps[by].received[-1].line == f"GET {sent} HTTP/1.1".encode()


async def test_fields_are_rewritten_in_both_directions(running: RunningSidecar, apps: dict[str, RawApp]) -> None:
    sent = {"Cookie": "a=b", "X-From": "client", "X-More": "1"}
    answer: Answer = await fetch(running.inbound, "/fields/both", headers=sent)
    request: Received = apps["fields"].received[-1]
    assert request.values(b"x-from") == [b"gateway"]
    assert request.values(b"x-more") == [b"1", b"2"]
    assert request.values(b"cookie") == []
    assert request.values(b"host") == [b"inner.example"]
    assert "x-secret" not in answer.fields
    assert answer.fields["x-gateway"] == "1"
    assert answer.fields["server"] == "app"


async def test_the_host_is_the_targets_own_unless_it_is_kept(running: RunningSidecar, apps: dict[str, RawApp]) -> None:
    for name, host in (("add", f"127.0.0.1:{apps['add'].port}"), ("kept", "shop.example:8080")):
        await fetch(running.inbound, f"/{name}/host", headers={"Host": "shop.example:8080"})
        request = apps[name].received[-1]
        assert request.values(b"host") == [host.encode()]
        assert request.values(b"x-forwarded-host") == [b"shop.example:8080"]


async def test_traffic_is_split_by_weight(running: RunningSidecar) -> None:
    by: Counter[str] = Counter()
    async with client(running.inbound) as one:
        for number in range(600):
            by[(await one.request("GET", f"/split/{number}")).fields["x-by"]] += 1
        assert {(await one.request("GET", "/weight/x")).fields["x-by"] for _ in range(20)} == {"b"}
    assert 0.70 <= by["a"] / 600 <= 0.90  # six standard deviations


async def test_a_split_is_sticky_where_asked(running: RunningSidecar) -> None:
    ways: Counter[str] = Counter()
    async with client(running.inbound) as one:
        for user in range(60):
            by = {(await one.request("GET", "/sticky/x", {"X-User": f"user-{user}"})).fields["x-by"] for _ in range(3)}
            assert len(by) == 1
            ways[by.pop()] += 1
    assert min(ways["a"], ways["b"]) >= 10


async def test_an_explanation_says_that_there_is_nowhere_to_go(running: RunningSidecar) -> None:
    status, body = await running.admin("/explain", {"url": "/elsewhere"})
    said = json.loads(body)
    assert (status, said["verdict"], said["answer"]["code"]) == (200, "deny", "no_route")
