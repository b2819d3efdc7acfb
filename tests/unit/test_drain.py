"""The shutdown as it happens: real loop, real signals, a data path whose requests the test finishes."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from agent.runtime.drain import Shutdown
from agent.runtime.lifecycle import Event, Phase
from agent.runtime.settings import LifecycleSettings
from agent.runtime.signals import handled

LOOPS = ("asyncio", "uvloop")


class DataPath:
    """Requests are numbers here."""

    def __init__(self, *, in_flight: int = 0, tunnels: int = 0) -> None:
        self.in_flight = in_flight
        self.tunnels = tunnels
        self.connections = in_flight + 2
        self.calls: list[str] = []
        self._on_idle: Callable[[], None] | None = None

    def begin_drain(self, on_idle: Callable[[], None]) -> None:
        self.calls.append("drain")
        self.connections = self.in_flight
        self._on_idle = on_idle
        self.finish(0)

    def finish(self, count: int) -> None:
        self.in_flight -= count
        if self.in_flight + self.tunnels == 0 and self._on_idle is not None:
            self._on_idle()

    async def abort(self) -> int:
        self.calls.append("abort")
        cut, self.in_flight, self.tunnels = self.in_flight, 0, 0
        return cut


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def __call__(self, level: str, sentence: str, **fields: object) -> None:
        self.lines.append((level, sentence, fields))


class Phases:
    def __init__(self) -> None:
        self.seen: list[Phase] = []
        self._changed = asyncio.Event()

    def __call__(self, phase: Phase) -> None:
        self.seen.append(phase)
        self._changed.set()

    async def reached(self, phase: Phase) -> None:
        async with asyncio.timeout(5):
            while phase not in self.seen:
                self._changed.clear()
                await self._changed.wait()


def settings(**values: float) -> LifecycleSettings:
    return LifecycleSettings.model_validate({"grace_s": 0.02, "drain_s": 5} | values)


async def test_clean_end() -> None:
    data_path, log, phases = DataPath(in_flight=2), Log(), Phases()
    shutdown = Shutdown(settings(), data_path, log=log, on_phase=phases)
    shutdown.post(Event.STARTED)
    ending = asyncio.ensure_future(shutdown.wait())
    shutdown.post(Event.TERMINATE)
    assert data_path.calls == []
    await phases.reached(Phase.DRAINING)
    data_path.finish(1)
    await asyncio.sleep(0)
    assert not ending.done()
    data_path.finish(1)
    assert await asyncio.wait_for(ending, 5) == 0
    assert phases.seen == [Phase.RUNNING, Phase.DEREGISTERING, Phase.DRAINING, Phase.STOPPED]
    assert data_path.calls == ["drain", "abort"]
    assert log.lines[-1][:2] == ("info", "stopped; every accepted request was finished")


async def test_idle_at_once() -> None:
    data_path = DataPath()
    shutdown = Shutdown(settings(), data_path, log=Log())
    shutdown.post(Event.STARTED)
    shutdown.post(Event.INTERRUPT)
    assert await asyncio.wait_for(shutdown.wait(), 5) == 0


async def test_deadline_cuts_and_says_how_many() -> None:
    data_path, log = DataPath(in_flight=3, tunnels=1), Log()
    shutdown = Shutdown(settings(grace_s=0, drain_s=0.05, cut_exit_code=7), data_path, log=log)
    shutdown.post(Event.STARTED)
    shutdown.post(Event.TERMINATE)
    assert await asyncio.wait_for(shutdown.wait(), 5) == 7
    level, sentence, fields = log.lines[-1]
    assert level == "error"
    assert "3 requests were cut off" in sentence
    assert "deadline" in sentence
    assert fields == {"requests_cut": 3, "tunnels_cut": 1}


async def test_cut_tunnels_are_no_lost_requests() -> None:
    shutdown = Shutdown(settings(grace_s=0, drain_s=0.05), DataPath(tunnels=2), log=Log())
    shutdown.post(Event.STARTED)
    shutdown.post(Event.TERMINATE)
    assert await asyncio.wait_for(shutdown.wait(), 5) == 0


async def test_further_signal_cuts() -> None:
    data_path, log = DataPath(in_flight=1), Log()
    shutdown = Shutdown(settings(drain_s=60), data_path, log=log)
    shutdown.post(Event.STARTED)
    for _ in range(3):
        shutdown.post(Event.TERMINATE)
    assert await asyncio.wait_for(shutdown.wait(), 5) == 1
    assert "a further signal came" in log.lines[-1][1]


async def test_local_api_stays_until_the_application_is_gone() -> None:
    gone = asyncio.Event()

    async def wait_until_gone() -> None:
        await gone.wait()

    phases = Phases()
    shutdown = Shutdown(settings(drain_s=60), DataPath(), log=Log(), on_phase=phases, wait_until_gone=wait_until_gone)
    shutdown.post(Event.STARTED)
    shutdown.post(Event.INTERRUPT)
    ending = asyncio.ensure_future(shutdown.wait())
    await phases.reached(Phase.APP_GRACE)
    assert not ending.done()
    gone.set()
    assert await asyncio.wait_for(ending, 5) == 0


async def test_deadline_ends_the_wait_for_the_application() -> None:
    async def wait_until_gone() -> None:
        await asyncio.Event().wait()

    shutdown = Shutdown(settings(grace_s=0, drain_s=0.05), DataPath(), log=Log(), wait_until_gone=wait_until_gone)
    shutdown.post(Event.STARTED)
    shutdown.post(Event.TERMINATE)
    assert await asyncio.wait_for(shutdown.wait(), 5) == 0


async def test_report() -> None:
    now = 50.0
    shutdown = Shutdown(settings(grace_s=5, drain_s=30), DataPath(in_flight=2), log=Log(), clock=lambda: now)
    report = shutdown.report()
    assert (report.phase, report.deadline, report.in_flight, report.connections) == ("starting", None, 2, 4)
    shutdown.post(Event.STARTED)
    now = 60.0
    shutdown.post(Event.TERMINATE)
    later = shutdown.report()
    assert later.phase == "deregistering"
    assert later.deadline is not None
    assert later.deadline - later.since == pytest.approx(30)
    assert shutdown.is_ending


async def test_real_signals() -> None:
    calls: list[str] = []
    seen = asyncio.Event()

    def note(name: str) -> Callable[[], None]:
        def call() -> None:
            asyncio.get_running_loop()
            calls.append(name)
            seen.set()

        return call

    before = signal.getsignal(signal.SIGHUP)
    with handled({signal.SIGTERM: note("term"), signal.SIGINT: note("int"), signal.SIGHUP: note("hup")}):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            seen.clear()
            os.kill(os.getpid(), number)
            await asyncio.wait_for(seen.wait(), 5)
    assert calls == ["term", "int", "hup"]
    assert signal.getsignal(signal.SIGHUP) == before
