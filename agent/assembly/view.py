"""What operators and the application may ask of a sidecar that is one process."""

from collections.abc import Mapping, Sequence
from typing import Any

from agent.assembly.sidecar import Sidecar
from agent.config.root import Config
from agent.ports.operator import Component, ConfigReport, LifecycleReport, Question
from agent.runtime.app_health import AppHealth
from agent.runtime.drain import Shutdown
from agent.runtime.lifecycle import Event, Phase
from agent.runtime.reload import Reloader
from agent.telemetry.snapshot import Snapshot

BLOCKS = ("publish", "enqueue", "cache", "repository", "tokens")


class SingleView:
    """Satisfies `agent.ports.operator.SidecarView`."""

    def __init__(
        self,
        sidecar: Sidecar,
        shutdown: Shutdown,
        reloader: Reloader[Config],
        app_health: AppHealth | None,
        listening: Mapping[str, str],
    ) -> None:
        self._sidecar = sidecar
        self._shutdown = shutdown
        self._reloader = reloader
        self._app_health = app_health
        self._listening = listening

    async def components(self) -> Sequence[Component]:
        """See `LocalView`."""
        phase = self._shutdown.phase
        lifecycle = Component("lifecycle", ready=phase is Phase.RUNNING, state=phase.value)
        app = [self._app_health.component()] if self._app_health is not None else []
        return [lifecycle, *app, *self._sidecar.components()]

    async def capabilities(self) -> Mapping[str, Any]:
        """See `LocalView`."""
        return dict.fromkeys(BLOCKS, "unsupported")

    def lifecycle(self) -> LifecycleReport:
        """See `SidecarView`."""
        return self._shutdown.report()

    async def snapshot(self) -> Snapshot:
        """See `SidecarView`."""
        return self._sidecar.snapshot()

    def config(self) -> ConfigReport:
        """See `SidecarView`."""
        config = self._sidecar.config
        return ConfigReport(config.file, config.fingerprint, config.view(), self._listening, self._reloader.last)

    def log_level(self) -> str:
        """See `SidecarView`."""
        return self._sidecar.process_log.level

    async def set_log_level(self, level: str) -> None:
        """See `SidecarView`."""
        self._sidecar.process_log.level = level

    async def drain(self, *, stop: bool) -> None:
        """See `SidecarView`."""
        self._shutdown.post(Event.TERMINATE if stop else Event.HOLD)

    async def undrain(self) -> None:
        """See `SidecarView`."""
        if self._shutdown.is_ending:
            raise ValueError("the end has been asked for and can't be taken back")
        self._shutdown.post(Event.RESUME)

    async def explain(self, question: Question) -> Mapping[str, Any]:
        """See `SidecarView`."""
        return self._sidecar.explain(question)
