"""What operators see and do, put together from the runtime's parts: one process or a supervisor, the same view."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from agent.ports.operator import Component, ConfigReport, LifecycleReport, Question
from agent.runtime.drain import Shutdown
from agent.runtime.lifecycle import Event
from agent.runtime.process import L
from agent.runtime.reload import Reloader
from agent.telemetry.snapshot import Snapshot


@dataclass(slots=True, kw_only=True)
class Operator(Generic[L]):
    """A `SidecarView`. Every field that differs between one process and many is a function."""

    shutdown: Shutdown
    reloader: Reloader[L]
    source: str
    """The configuration file."""
    listening: Callable[[], Mapping[str, str]]
    """Surface → bound address."""
    masked: Callable[[L], Mapping[str, Any]]
    """The configuration as JSON, secrets masked."""
    doubts: Callable[[L], Sequence[Mapping[str, Any]]]
    """What is doubtful in the configuration, as JSON."""
    read_components: Callable[[], Sequence[Component]]
    take_snapshot: Callable[[], Awaitable[Snapshot]]
    """`Supervisor.snapshot`, or the registry's in a single process."""
    answer_question: Callable[[Question], Awaitable[Mapping[str, Any]]]
    """Raises ValueError for a senseless question."""
    read_log_level: Callable[[], str]
    write_log_level: Callable[[str], Awaitable[None]]
    """Raises ValueError naming the levels there are."""
    read_capabilities: Callable[[], Mapping[str, Any]] = dict

    def lifecycle(self) -> LifecycleReport:
        """See `SidecarView`."""
        return self.shutdown.report()

    async def components(self) -> Sequence[Component]:
        """See `LocalView`."""
        return self.read_components()

    async def capabilities(self) -> Mapping[str, Any]:
        """See `LocalView`."""
        return self.read_capabilities()

    async def snapshot(self) -> Snapshot:
        """See `SidecarView`."""
        return await self.take_snapshot()

    def config(self) -> ConfigReport:
        """See `SidecarView`."""
        current = self.reloader.current
        return ConfigReport(
            self.source,
            current.fingerprint,
            self.masked(current),
            self.listening(),
            self.reloader.last,
            self.doubts(current),
        )

    def log_level(self) -> str:
        """See `SidecarView`."""
        return self.read_log_level()

    async def set_log_level(self, level: str) -> None:
        """See `SidecarView`."""
        await self.write_log_level(level)

    async def drain(self, *, stop: bool) -> None:
        """See `SidecarView`."""
        if not stop:
            self.shutdown.post(Event.HOLD)
        elif not self.shutdown.is_ending:  # a second call must not hasten what a second signal would
            self.shutdown.post(Event.TERMINATE)

    async def undrain(self) -> None:
        """See `SidecarView`."""
        if self.shutdown.is_ending:
            raise ValueError("The end has been asked for; the process can't be brought back.")
        self.shutdown.post(Event.RESUME)

    async def explain(self, question: Question) -> Mapping[str, Any]:
        """See `SidecarView`."""
        return await self.answer_question(question)
