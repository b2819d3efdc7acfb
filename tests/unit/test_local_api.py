"""The local API's core: health without the application's own, capabilities that never surprise."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from agent.api.capabilities import BLOCKS
from agent.api.endpoints import local_endpoints, missing
from agent.drivers.control_http import ControlServer, Gate
from agent.drivers.control_messages import Request, Response
from agent.ports.operator import Component


class View:
    def __init__(self, parts: Sequence[Component] = (), blocks: Mapping[str, Any] | None = None) -> None:
        self.parts = parts
        self.blocks = blocks or {}

    async def components(self) -> Sequence[Component]:
        return self.parts

    async def capabilities(self) -> Mapping[str, Any]:
        return self.blocks


async def ask(view: View, method: str, path: str) -> Response:
    server = ControlServer(
        local_endpoints(view), name="local", gate=Gate(), log_error=lambda text, error: None, missing=missing
    )
    fields = {"host": "localhost", "content-type": "application/json"}
    return await server.answer(Request(method, path, fields=fields))


HEALTH: list[tuple[list[Component], int, str]] = [
    ([], 200, "ok"),
    ([Component("app", ready=False)], 200, "ok"),
    ([Component("broker", ready=True)], 200, "ok"),
    ([Component("broker", ready=False, required=False)], 200, "degraded"),
    ([Component("broker", ready=False), Component("app", ready=True)], 503, "down"),
]


@pytest.mark.parametrize(("parts", "status", "word"), HEALTH)
async def test_health(parts: list[Component], status: int, word: str) -> None:
    response = await ask(View(parts), "GET", "/v1/health")
    body = json.loads(response.body)
    assert (response.status, body["status"]) == (status, word)
    assert [part["name"] for part in body["components"]] == [part.name for part in parts]


async def test_health_tells_all() -> None:
    part = Component("app", ready=False, state="unreachable", since=1_700_000_000.5, error="refused")
    assert json.loads((await ask(View([part]), "GET", "/v1/health")).body)["components"] == [
        {
            "name": "app",
            "ready": False,
            "required": True,
            "state": "unreachable",
            "since": "2023-11-14T22:13:20.500Z",
            "last_error": "refused",
        }
    ]


async def test_capabilities() -> None:
    told = json.loads((await ask(View(), "GET", "/v1/capabilities")).body)
    assert told == dict.fromkeys(BLOCKS, "unsupported")
    told = json.loads((await ask(View(blocks={"invoke": {"upstreams": ["a"]}}), "GET", "/v1/capabilities")).body)
    assert told["invoke"] == {"upstreams": ["a"]}
    assert told["cache"] == "unsupported"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/publish", "/v2/publish/orders", "/v1/orders/17", "/v1/health/"])
async def test_everything_else_is_a_problem(path: str) -> None:
    for method in ("GET", "POST"):
        response = await ask(View(), method, path)
        assert (response.status, response.content_type) == (404, "application/problem+json")
        assert json.loads(response.body)["code"] == "not_found"


@pytest.mark.parametrize(
    "path", ["/v1/publish/orders", "/v1/rate-limits/own/take", "/v1/cache/default/k", "/v1/sql/a/b"]
)
async def test_a_block_that_is_not_there_is_unsupported(path: str) -> None:
    response = await ask(View(), "POST", path)
    assert response.status == 501
    assert json.loads(response.body)["code"] == "unsupported"
