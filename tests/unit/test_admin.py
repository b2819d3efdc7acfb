"""The admin endpoints over a view made of values: what operators see, and what they may change."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from agent.admin.endpoints import OPEN_PATHS, admin_endpoints
from agent.drivers.control_http import ControlServer, Gate
from agent.drivers.control_messages import Request, Response
from agent.ports.operator import Component, ConfigReport, LifecycleReport, Question, ReloadReport
from agent.telemetry.metrics import Registry
from agent.telemetry.snapshot import Snapshot


class View:
    """Whatever the test says."""

    def __init__(self) -> None:
        self.phase = "running"
        self.parts: list[Component] = []
        self.level = "info"
        self.calls: list[Any] = []
        self.registry = Registry()
        self.reload: ReloadReport | None = None

    async def components(self) -> Sequence[Component]:
        return self.parts

    async def capabilities(self) -> Mapping[str, Any]:
        return {}

    def lifecycle(self) -> LifecycleReport:
        return LifecycleReport(self.phase, 1_700_000_000.25, None, in_flight=3, connections=7)

    async def snapshot(self) -> Snapshot:
        return self.registry.snapshot()

    def config(self) -> ConfigReport:
        return ConfigReport("outrigger.yaml", "ab12", {"workers": 1}, {"inbound": "http://0.0.0.0:8080"}, self.reload)

    def log_level(self) -> str:
        return self.level

    async def set_log_level(self, level: str) -> None:
        if level not in {"debug", "info"}:
            raise ValueError(f"{level!r} is no level: debug or info")
        self.level = level

    async def drain(self, *, stop: bool) -> None:
        self.calls.append(("drain", stop))
        self.phase = "deregistering"

    async def undrain(self) -> None:
        if self.phase == "draining":
            raise ValueError("the end has been asked for")
        self.phase = "running"

    async def explain(self, question: Question) -> Mapping[str, Any]:
        if question.url == "bad":
            raise ValueError("that is no URL")
        self.calls.append(question)
        return {"verdict": "allow"}


@pytest.fixture
def view() -> View:
    return View()


async def ask(view: View, method: str, path: str, body: Any = None, **fields: str) -> Response:
    """Through the server's own gate, so that what it refuses is refused here."""
    errors: list[str] = []
    server = ControlServer(
        admin_endpoints(view),
        name="admin",
        gate=Gate(),
        log_error=lambda text, error: errors.append(f"{text} {error!r}"),
    )
    names = {"host": "127.0.0.1", "content-type": "application/json"} if body is not None else {"host": "127.0.0.1"}
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    response = await server.answer(Request(method, path, fields=names | fields, body=content))
    assert errors == []
    return response


def document(response: Response) -> Any:
    return json.loads(response.body)


@pytest.mark.parametrize("phase", ["starting", "running", "deregistering", "draining", "app_grace"])
async def test_alive_in_every_phase(view: View, phase: str) -> None:
    view.phase = phase
    view.parts = [Component("app", ready=False)]
    assert (await ask(view, "GET", "/livez")).status == 200


READY: list[tuple[str, list[Component], int, list[str]]] = [
    ("running", [], 200, []),
    ("running", [Component("app", ready=True)], 200, []),
    ("running", [Component("cache", ready=False, required=False, state="down")], 200, []),
    ("running", [Component("app", ready=False, state="gone", error="refused")], 503, ["app is gone: refused"]),
    ("running", [Component("app", ready=False)], 503, ["app is not ready"]),
    ("starting", [], 503, ["the sidecar is starting"]),
    ("deregistering", [Component("app", ready=True)], 503, ["the sidecar is deregistering"]),
    ("draining", [Component("x", ready=False)], 503, ["the sidecar is draining", "x is not ready"]),
]  # fmt: skip


@pytest.mark.parametrize(("phase", "parts", "status", "reasons"), READY)
async def test_ready(view: View, phase: str, parts: list[Component], status: int, reasons: list[str]) -> None:
    view.phase, view.parts = phase, parts
    response = await ask(view, "GET", "/readyz")
    assert response.status == status
    told = document(response)
    assert told["reasons"] == reasons
    assert told["ready"] is (status == 200)
    assert list(told["components"]) == [part.name for part in parts]


async def test_component_in_full(view: View) -> None:
    view.parts = [Component("app", ready=False, state="unhealthy", since=1_700_000_000.5, error="status 500")]
    assert document(await ask(view, "GET", "/readyz"))["components"]["app"] == {
        "ready": False,
        "required": True,
        "state": "unhealthy",
        "since": "2023-11-14T22:13:20.500Z",
        "last_error": "status 500",
    }


@pytest.mark.parametrize(
    ("accept", "content_type", "last"),
    [
        ("", "text/plain", b"\n"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text", b"# EOF\n"),
    ],
)
async def test_metrics(view: View, accept: str, content_type: str, last: bytes) -> None:
    view.registry.counter("outrigger_things_total", "Things.", ("kind",)).at("a")[0] += 5
    response = await ask(view, "GET", "/metrics", accept=accept)
    assert response.content_type.startswith(content_type)
    assert b'outrigger_things_total{kind="a"} 5\n' in response.body
    assert response.body.endswith(last)


async def test_config_with_a_refused_reload(view: View) -> None:
    view.reload = ReloadReport("refused", 1_700_000_000.0, "workers: must be at least 1", ("listen needs a restart",))
    assert document(await ask(view, "GET", "/config")) == {
        "source": "outrigger.yaml",
        "fingerprint": "ab12",
        "listening": {"inbound": "http://0.0.0.0:8080"},
        "last_reload": {
            "result": "refused",
            "at": "2023-11-14T22:13:20.000Z",
            "error": "workers: must be at least 1",
            "warnings": ["listen needs a restart"],
        },
        "warnings": [],
        "config": {"workers": 1},
    }
    view.reload = None
    assert document(await ask(view, "GET", "/config"))["last_reload"] is None


async def test_log_level(view: View) -> None:
    assert document(await ask(view, "GET", "/log-level")) == {"level": "info"}
    assert document(await ask(view, "PUT", "/log-level", {"level": "debug"})) == {"level": "debug"}
    assert view.level == "debug"


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("PUT", "/log-level", {"level": "loud"}, 400, "'loud' is no level: debug or info"),
    ("PUT", "/log-level", {"level": 1}, 400, "Exactly one key"),
    ("PUT", "/log-level", {}, 400, "Exactly one key"),
    ("PUT", "/log-level", {"level": "info", "logger": "x"}, 400, "Exactly one key"),
    ("PUT", "/log-level", b"level=debug", 400, "no JSON"),
    ("POST", "/drain", {"stop": "yes"}, 400, "Send {}"),
    ("POST", "/drain", {"exit": True}, 400, "Send {}"),
    ("POST", "/explain", {"method": 1}, 400, "method must be a string"),
    ("POST", "/explain", {"headers": ["a"]}, 400, "headers must be an object"),
    ("POST", "/explain", {"headers": {"a": 1}}, 400, "headers must be an object"),
    ("POST", "/explain", {"uri": "/"}, 400, "Unknown: uri"),
    ("POST", "/explain", {"url": "bad"}, 400, "that is no URL"),
    ("GET", "/drain", None, 405, ""),
    ("GET", "/explain", None, 405, ""),
    ("POST", "/log-level", {"level": "debug"}, 405, ""),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "detail"), REFUSED)
async def test_refused(view: View, method: str, path: str, body: Any, status: int, detail: str) -> None:
    response = await ask(view, method, path, body)
    assert response.status == status
    assert detail in document(response).get("detail", "")
    assert view.calls == []
    assert view.level == "info"


async def test_changing_needs_json(view: View) -> None:
    for method, path in (("POST", "/drain"), ("PUT", "/log-level"), ("POST", "/explain")):
        assert (await ask(view, method, path)).status == 415
    assert view.calls == []


async def test_drain_and_back(view: View) -> None:
    response = await ask(view, "POST", "/drain", {})
    assert response.status == 202
    assert document(response)["phase"] == "deregistering"
    assert document(await ask(view, "DELETE", "/drain"))["phase"] == "running"
    await ask(view, "POST", "/drain", {"stop": True})
    assert view.calls == [("drain", False), ("drain", True)]
    view.phase = "draining"
    response = await ask(view, "DELETE", "/drain")
    assert (response.status, document(response)["code"]) == (409, "cannot_undo")


async def test_lifecycle(view: View) -> None:
    assert document(await ask(view, "GET", "/lifecycle")) == {
        "phase": "running",
        "since": "2023-11-14T22:13:20.250Z",
        "deadline": None,
        "in_flight": 3,
        "connections": 7,
    }


async def test_explain(view: View) -> None:
    body = {"method": "POST", "url": "/a?b", "headers": {"X-A": "1"}, "client_ip": "10.0.0.1", "token": "t"}
    assert document(await ask(view, "POST", "/explain", body)) == {"verdict": "allow"}
    await ask(view, "POST", "/explain", {})
    assert view.calls == [Question("POST", "/a?b", {"x-a": "1"}, "10.0.0.1", "t"), Question()]


async def test_index_names_every_endpoint(view: View) -> None:
    table = admin_endpoints(view)
    text = (await ask(view, "GET", "/")).body.decode()
    for method, path in table:
        assert path == "/" or f"{method:<7}{path}" in text
    assert set(OPEN_PATHS) <= {path for _, path in table}
