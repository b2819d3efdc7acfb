"""The application's health: no slow start and no outage is final; and the probe that finds out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.core.address import Address, parse_address
from agent.drivers.probe import ProbeError, probe, reachable
from agent.runtime.app_health import AppHealth, wait_until_gone
from agent.runtime.settings import AppHealthSettings
from agent.telemetry.metrics import Registry

LOOPS = ("asyncio", "uvloop")
APP = parse_address("http://127.0.0.1:8000")


class App:
    """Answers as the script says: a status, or an error's text."""

    def __init__(self, *script: int | str) -> None:
        self.script = list(script)
        self.timeouts: list[float] = []

    async def probe(self, address: Address, path: str, timeout_s: float) -> int:
        self.timeouts.append(timeout_s)
        answer = self.script.pop(0)
        if isinstance(answer, str):
            raise ProbeError(answer)
        return answer


class Watched:
    def __init__(self, app: App, path: str | None = "/healthz", **settings: Any) -> None:
        self.app = app
        self.changes: list[bool] = []
        self.told: list[tuple[float, str, str, dict[str, object]]] = []
        self.registry = Registry()
        self.now = 1000.0
        self.health = AppHealth(
            APP,
            path,
            AppHealthSettings.model_validate(settings),
            probe=app.probe,
            registry=self.registry,
            log=lambda level, sentence, **fields: self.told.append((self.now - 1000, level, sentence, fields)),
            on_change=self.changes.append,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
        )

    async def checks(self, count: int) -> None:
        for _ in range(count):
            self.now += 1
            await self.health.check("/healthz")

    @property
    def gauge(self) -> Any:
        (family,) = [one for one in self.registry.snapshot()["families"] if one["name"] == "outrigger_app_healthy"]
        return family["series"][0][1]


async def test_ready_at_once_without_a_path() -> None:
    watched = Watched(App(), path=None)
    await asyncio.wait_for(watched.health.run(), 1)
    assert watched.health.ready
    assert watched.gauge == 1
    assert watched.health.component().state == "not probed"


@pytest.mark.parametrize(
    ("script", "settings", "changes"),
    [
        ([200], {}, [True]),
        ([399], {}, [True]),
        ([400, 500, 404], {}, []),
        (["refused", "refused", 200], {}, [True]),
        ([200, 500, 500], {}, [True]),
        ([200, 500, 500, 500], {}, [True, False]),
        ([200, 500, 500, 200, 500, 500], {}, [True]),
        ([200, 500, 500, 500, 200], {}, [True, False, True]),
        ([200, 500, 200, 200], {"healthy_after": 2, "unhealthy_after": 1}, [True]),
        ([200, 200, 500, 200, 200], {"healthy_after": 2, "unhealthy_after": 1}, [True, False, True]),
    ],
)
async def test_thresholds(script: list[int | str], settings: dict[str, Any], changes: list[bool]) -> None:
    watched = Watched(App(*script), **settings)
    await watched.checks(len(script))
    assert watched.changes == changes
    assert watched.health.ready is (changes[-1] if changes else False)
    assert watched.gauge == float(watched.health.ready)


async def test_a_slow_first_answer_is_waited_for() -> None:
    """Each attempt waits longer: an application that needs ten seconds for its first answer becomes ready."""
    app = App(*["slow"] * 6, 200, 500)
    watched = Watched(app, timeout_s=1, startup_timeout_s=15)
    await watched.checks(8)
    assert app.timeouts == [1, 2, 4, 8, 15, 15, 15, 1]
    assert watched.health.ready


async def test_probed_often_until_healthy_and_for_ever() -> None:
    watched = Watched(App(*["down"] * 500, 200, 500, 500, 500), interval_s=5)
    pauses = []
    for _ in range(500):
        pauses.append(watched.health.pause_s)
        await watched.checks(1)
    assert pauses[0] == 0.05
    assert sum(pauses[:6]) < 1.5
    assert max(pauses) == pauses[-1] == 1
    await watched.checks(1)
    assert watched.health.pause_s == 5
    await watched.checks(1)
    assert watched.health.pause_s == 1


async def test_what_can_not_serve_is_reminded_of() -> None:
    watched = Watched(App(*["refused"] * 1000, 200, *[503] * 40))
    await watched.checks(1000)
    moments = [moment for moment, *_ in watched.told]
    assert moments == [5, 15, 35, 75, 155, 315, 615, 915], "at growing intervals, five minutes at most"
    said = {"app": "http://127.0.0.1:8000", "path": "/healthz", "error": "refused"}
    assert all(line[1:] == ("warning", "application is not answering yet", said) for line in watched.told)
    watched.told.clear()
    await watched.checks(41)
    sentences = [(moment, sentence) for moment, _, sentence, _ in watched.told]
    assert sentences == [
        (1001, "application is healthy"),
        (1004, "application is unhealthy"),
        *((1004 + later, "application is unhealthy") for later in (5, 15, 35)),
    ]
    assert watched.told[-1][3]["error"] == "GET /healthz answered 503"


async def test_component_says_what_is_wrong() -> None:
    watched = Watched(App("refused", 200, 503, 503, 503))
    await watched.checks(1)
    assert watched.health.component()[1:] == (False, True, "not answering yet", 1000.0, "refused")
    await watched.checks(1)
    assert watched.health.component()[1:] == (True, True, "healthy", 1002.0, "")
    await watched.checks(3)
    assert watched.health.component()[1:] == (False, True, "unhealthy", 1005.0, "GET /healthz answered 503")


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[bytes | None], Awaitable[Address]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers that answer every request with the same bytes; None: never."""
    servers = []
    seen: list[asyncio.StreamWriter] = []

    async def start(answer: bytes | None) -> Address:
        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(writer)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"GET /healthz?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
            if answer is not None:
                writer.write(answer)
                writer.close()

        server = await asyncio.start_server(client, "127.0.0.1", 0)
        servers.append(server)
        return Address("http", "127.0.0.1", server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for writer in seen:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", 200),
        (b"HTTP/1.0 503\r\n\r\n", 503),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204),
    ],
)
async def test_probe_reads_the_status(serve: Serve, answer: bytes, status: int) -> None:
    assert await probe(await serve(answer), "/healthz?x=1", 5) == status


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "closed the connection before it answered"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP/1.1"),
        (b"HTTP/1.1 2xx\r\n", "no HTTP/1.1"),
        (b"HTTP/1.1 200" + b" " * 100_000, "127.0.0.1"),
        (None, "no answer"),
    ],
)
async def test_probe_says_what_went_wrong(serve: Serve, answer: bytes | None, sentence: str) -> None:
    address = await serve(answer)
    with pytest.raises(ProbeError, match=sentence):
        await probe(address, "/healthz?x=1", 0.2 if answer is None else 5)


async def test_nobody_there(serve: Serve, tmp_path: Path, unused_tcp_port: int) -> None:
    nowhere = Address("http", "127.0.0.1", unused_tcp_port)
    with pytest.raises(ProbeError, match="refuses connections"):
        await probe(nowhere, "/", 1)
    with pytest.raises(ProbeError, match="No such file"):
        await probe(Address("unix", "", 0, str(tmp_path / "no.sock")), "/", 1)
    assert not await reachable(nowhere, 1)
    assert await reachable(await serve(None), 1)


async def test_unix_socket(tmp_path: Path) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if b"Host: localhost\r\n" in head else b"HTTP/1.1 400 Bad\r\n\r\n")
        writer.close()

    path = str(tmp_path / "app.sock")
    server = await asyncio.start_unix_server(client, path)
    assert await probe(parse_address(f"unix:{path}"), "/", 5) == 200
    server.close()


async def test_wait_until_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [True, True, False]

    async def there(address: Address, timeout_s: float) -> bool:
        return answers.pop(0)

    await asyncio.wait_for(wait_until_gone(APP, there), 5)
    assert answers == []
