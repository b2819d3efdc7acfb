"""Whether the application can serve: probed for ever, so that no slow start or outage is ever final."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from agent.core.address import Address
from agent.core.clock import Clock, monotonic, wall
from agent.core.errors import OutriggerError
from agent.ports.operator import Component
from agent.runtime.process import Log
from agent.runtime.settings import AppHealthSettings
from agent.telemetry.metrics import Registry

Probe = Callable[[Address, str, float], Awaitable[int]]
"""As `agent.drivers.probe.probe`: address, path, time-out in seconds → status; raises OutriggerError."""

Reachable = Callable[[Address, float], Awaitable[bool]]
"""As `agent.drivers.probe.reachable`."""

_FIRST_PAUSE_S = 0.05
_GONE_PAUSE_S = 0.25
_REMIND_AFTER_S = 5.0
_REMIND_MOST_S = 300.0
"""An application that can't serve is reminded of: first after so long, then at doubled intervals up to this one."""


class AppHealth:
    """The application's health, and `on_change(ready)` when it changes.

    Without a health path it is ready at once and stays so. With one, it is probed: often until it first answers (each
    attempt waiting longer, so that a slow first answer counts), then every `interval_s`. Statuses 200 to 399 are good.
    """

    def __init__(  # noqa: PLR0913  what a composition root hands over
        self,
        address: Address,
        path: str | None,
        settings: AppHealthSettings,
        *,
        probe: Probe,
        registry: Registry,
        log: Log,
        on_change: Callable[[bool], None] = lambda ready: None,
        clock: Clock = monotonic,
        wall_clock: Clock = wall,
    ) -> None:
        self.address = address
        self.path = path
        self.ready = path is None
        self.since = wall_clock()
        """Seconds since the Unix epoch at which `ready` became what it is."""
        self.last_error = ""
        self._settings = settings
        self._probe = probe
        self._log = log
        self._on_change = on_change
        self._clock = clock
        self._wall = wall_clock
        self._remind_after(_REMIND_AFTER_S)
        self._answered = False
        """It has given a good answer once."""
        self._attempts = 0
        """Failed probes before the first good answer."""
        self._good = self._bad = 0
        """In a row."""
        self._gauge = registry.gauge(
            "outrigger_app_healthy", "1 while the application counts as able to serve, else 0.", combine="max"
        ).at()
        self._gauge[0] = float(self.ready)

    async def run(self) -> None:
        """Probe for ever, as a background task; returns at once where there is no health path."""
        while self.path is not None:
            await self.check(self.path)
            await asyncio.sleep(self.pause_s)

    @property
    def pause_s(self) -> float:
        """Seconds until the next probe."""
        interval_s = self._settings.interval_s
        if self.ready and not self._bad:
            return interval_s
        if not self._answered:
            return min(_FIRST_PAUSE_S * math.pow(1.5, min(self._attempts, 30)), interval_s, 1.0)
        return min(interval_s, 1.0)

    @property
    def timeout_s(self) -> float:
        """Seconds that the next probe waits."""
        settings = self._settings
        if self._answered:
            return settings.timeout_s
        doubled = settings.timeout_s * (1 << min(self._attempts, 30))
        return min(doubled, max(settings.startup_timeout_s, settings.timeout_s))

    async def check(self, path: str) -> None:
        """Probe once, and draw the conclusions."""
        try:
            status = await self._probe(self.address, path, self.timeout_s)
        except OutriggerError as error:
            self._failed(str(error))
            return
        if 200 <= status < 400:
            self._succeeded()
        else:
            self._failed(f"GET {path} answered {status}")

    def component(self) -> Component:
        """For operators."""
        if self.ready:
            state = "healthy" if self.path else "not probed"
        else:
            state = "unhealthy" if self._answered else "not answering yet"
        return Component("app", ready=self.ready, state=state, since=self.since, error=self.last_error)

    def _succeeded(self) -> None:
        self._answered = True
        self._bad = 0
        self._good += 1
        self.last_error = ""
        if not self.ready and self._good >= self._settings.healthy_after:
            self._become(True)

    def _failed(self, error: str) -> None:
        self._good = 0
        self._bad += 1
        self._attempts += 1
        self.last_error = error
        if self.ready and self._bad >= self._settings.unhealthy_after:
            self._become(False)
        elif not self.ready and self._clock() >= self._remind_at:
            state = self.component().state
            self._log("warning", f"application is {state}", app=str(self.address), path=self.path, error=error)
            self._remind_after(min(self._pause_s * 2, _REMIND_MOST_S))

    def _remind_after(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._remind_at = self._clock() + pause_s

    def _become(self, ready: bool) -> None:
        self.ready = ready
        self.since = self._wall()
        self._gauge[0] = float(ready)
        if ready:
            self._log("info", "application is healthy", app=str(self.address))
        else:
            self._log(
                "warning", "application is unhealthy", app=str(self.address), path=self.path, error=self.last_error
            )
            self._remind_after(_REMIND_AFTER_S)
        self._on_change(ready)


async def wait_until_gone(address: Address, reachable: Reachable, *, timeout_s: float = 1.0) -> None:
    """Return when nobody accepts connections there any more."""
    while await reachable(address, timeout_s):  # noqa: ASYNC110  another process ends without telling us
        await asyncio.sleep(_GONE_PAUSE_S)
