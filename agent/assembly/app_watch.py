"""The application's health over reloads: its address and how it is asked may change while the sidecar runs."""

import asyncio
from collections.abc import Callable

from agent.config.application import AppSettings
from agent.core.address import parse_address
from agent.core.tasks import spawn
from agent.drivers.probe import probe
from agent.ports.operator import Component
from agent.runtime.app_health import AppHealth
from agent.runtime.process import Log
from agent.telemetry.metrics import Registry


class AppWatch:
    """Probes the application of the configuration in force, where there is one."""

    def __init__(self, registry: Registry, log: Log, on_change: Callable[[bool], None]) -> None:
        """`on_change` is told whether it can serve, when that changes."""
        self._registry = registry
        self._log = log
        self._on_change = on_change
        self._definition: tuple[object, ...] | None = None
        self._health: AppHealth | None = None
        self._task: asyncio.Task[None] | None = None

    def use(self, app: AppSettings | None) -> None:
        """Probe this application from now on; one that is asked as before keeps what is known of it."""
        definition = None if app is None else (app.url, app.health, app.health_check)
        if definition == self._definition:
            return
        self.close()
        self._definition = definition
        if app is None:
            self._health = None
            self._registry.gauge("outrigger_app_healthy", "").forget()
            return
        self._health = AppHealth(
            parse_address(app.url),
            app.health,
            app.health_check,
            probe=probe,
            registry=self._registry,
            log=self._log,
            on_change=self._on_change,
        )
        self._task = spawn(self._health.run(), name="app health")

    def components(self) -> list[Component]:
        """The application, for operators."""
        return [] if self._health is None else [self._health.component()]

    def close(self) -> None:
        """Probe no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
