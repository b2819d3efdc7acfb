"""The admin API over the runtime's own parts, through a socket: what an operator does with curl."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import aiohttp
import pytest

from agent.admin.endpoints import OPEN_PATHS, admin_endpoints
from agent.drivers.control_http import ControlServer, Gate
from agent.ports.operator import Component, Question, SidecarView
from agent.runtime.drain import Shutdown
from agent.runtime.lifecycle import Event
from agent.runtime.reload import Reloader
from agent.runtime.settings import LifecycleSettings, ReloadSettings
from agent.runtime.view import Operator
from agent.telemetry.metrics import Registry
from agent.telemetry.snapshot import Snapshot

LOOPS = ("asyncio", "uvloop")


class Config:
    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.files: Sequence[str] = ()


class DataPath:
    in_flight = 1
    tunnels = 0
    connections = 2

    def begin_drain(self, on_idle: Callable[[], None]) -> None:
        on_idle()

    async def abort(self) -> int:
        return 0


class Sidecar:
    """The parts as a composition root puts them together."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.level = "info"
        self.next = Config("two")
        settings = LifecycleSettings(grace_s=0, drain_s=5)
        self.shutdown = Shutdown(settings, DataPath(), log=self.log)
        self.reloader: Reloader[Config] = Reloader(
            Config("one"),
            load=self.load,
            apply=lambda new: [],
            settings=ReloadSettings(),
            registry=self.registry,
            log=self.log,
        )
        self.view: SidecarView = Operator(
            shutdown=self.shutdown,
            reloader=self.reloader,
            source="o.yaml",
            listening=lambda: {"admin": "http://127.0.0.1:4501"},
            masked=lambda config: {"is": config.fingerprint},
            doubts=lambda config: [{"path": "routes[0]"}],
            read_components=lambda: [Component("app", ready=True)],
            take_snapshot=self.snapshot,
            answer_question=self.explain,
            read_log_level=lambda: self.level,
            write_log_level=self.set_level,
        )

    def load(self) -> Config:
        if self.next.fingerprint == "bad":
            raise ValueError("workers: must be at least 1")
        return self.next

    def log(self, level: str, sentence: str, **fields: object) -> None: ...

    async def snapshot(self) -> Snapshot:
        return self.registry.snapshot()

    async def explain(self, question: Question) -> Mapping[str, Any]:
        return {"method": question.method}

    async def set_level(self, level: str) -> None:
        self.level = level


@pytest.fixture
async def sidecar() -> Sidecar:
    return Sidecar()


@pytest.fixture
async def client(sidecar: Sidecar) -> AsyncIterator[aiohttp.ClientSession]:
    server = ControlServer(
        admin_endpoints(sidecar.view),
        name="admin",
        gate=Gate(token="t", open_paths=OPEN_PATHS),
        log_error=lambda text, error: None,
    )
    bound = socket.create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    await server.start(bound)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await server.close(1)


TOKEN = {"authorization": "Bearer t"}


async def test_an_operators_day(sidecar: Sidecar, client: aiohttp.ClientSession) -> None:
    async def get(path: str) -> tuple[int, Any]:
        async with client.get(path, headers=TOKEN) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async with client.get("/readyz") as response:
        assert response.status == 503
    sidecar.shutdown.post(Event.STARTED)
    async with client.get("/readyz") as response:
        assert response.status == 200
    async with client.get("/config") as response:
        assert response.status == 401

    assert (await get("/config"))[1]["last_reload"] is None
    await sidecar.reloader.reload()
    sidecar.next = Config("bad")
    await sidecar.reloader.reload()
    config = (await get("/config"))[1]
    assert (config["fingerprint"], config["config"]) == ("two", {"is": "two"})
    assert config["warnings"] == [{"path": "routes[0]"}]
    assert (config["last_reload"]["result"], config["last_reload"]["error"]) == (
        "refused",
        "workers: must be at least 1",
    )
    metrics = (await get("/metrics"))[1]
    assert "outrigger_config_last_reload_successful 0\n" in metrics
    assert 'outrigger_config_reloads_total{result="applied"} 1\n' in metrics

    async with client.put("/log-level", json={"level": "debug"}, headers=TOKEN) as response:
        assert response.status == 200
    assert sidecar.level == "debug"
    async with client.post("/explain", json={"method": "PUT"}, headers=TOKEN) as response:
        assert await response.json() == {"method": "PUT"}

    async with client.post("/drain", json={}, headers=TOKEN) as response:
        assert response.status == 202
    assert (await get("/readyz"))[0] == 503
    async with client.delete("/drain", headers=TOKEN) as response:
        assert (await response.json())["phase"] == "running"
    assert (await get("/readyz"))[0] == 200

    async with client.post("/drain", json={"stop": True}, headers=TOKEN) as response:
        assert response.status == 202
    async with client.delete("/drain", headers=TOKEN) as response:
        assert response.status == 409
    assert await asyncio.wait_for(sidecar.shutdown.wait(), 5) == 0
    assert (await get("/livez"))[0] == 200
    assert (await get("/lifecycle"))[1]["phase"] == "stopped"
