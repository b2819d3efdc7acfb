"""Reads the configuration again on SIGHUP and file changes, and swaps to it as a whole or not at all."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Generic

from agent.core.clock import Clock, monotonic, wall
from agent.ports.operator import ReloadReport
from agent.runtime.process import Apply, L, Log
from agent.runtime.settings import ReloadSettings
from agent.runtime.watch import Watch
from agent.telemetry.metrics import Registry


class Reloader(Generic[L]):
    """Owns the configuration in force. Made inside the event loop.

    `load` reads and validates; it runs in a thread, so that a large file never stalls requests. `apply` swaps, without
    awaiting in a single process. Whatever fails, the old configuration stays and the error is kept for operators. An
    error of `load` may name in an attribute `files` what it had read: those are watched as well.
    """

    def __init__(  # noqa: PLR0913  what a composition root hands over
        self,
        current: L,
        *,
        load: Callable[[], L],
        apply: Apply[L],
        settings: ReloadSettings,
        registry: Registry,
        log: Log,
        clock: Clock = monotonic,
    ) -> None:
        self.current = current
        self.last: ReloadReport | None = None
        """The last attempt; None before the first."""
        self._load = load
        self._apply = apply
        self._settings = settings
        self._log = log
        self._clock = clock
        self._watch = Watch(current.files, debounce_s=settings.debounce_s)
        self.lock = asyncio.Lock()
        """Held while the configuration is read in a thread and applied."""
        self._asked = asyncio.Event()
        self._declare(registry)

    def _declare(self, registry: Registry) -> None:
        self._results = registry.counter(
            "outrigger_config_reloads_total", "Attempts to load the configuration again, by result.", ("result",)
        )
        for result in ("applied", "unchanged", "refused"):
            self._results.at(result)
        self._successful = registry.gauge(
            "outrigger_config_last_reload_successful", "1 where the configuration file, as it is now, is in force."
        ).at()
        self._moment = registry.gauge(
            "outrigger_config_last_reload_timestamp_seconds",
            "When the configuration in force was loaded, in seconds since the Unix epoch.",
            combine="max",
        ).at()
        self._successful[0], self._moment[0] = 1, wall()

    def request(self) -> None:
        """Read again soon: SIGHUP. Needs `run`."""
        self._asked.set()

    async def run(self) -> None:
        """Reload when asked or when the files have changed; for ever, as a background task."""
        while True:
            pause_s = self._settings.debounce_s if self._watch.is_settling else self._settings.poll_s
            try:
                async with asyncio.timeout(max(pause_s, 0.01)):
                    await self._asked.wait()
            except TimeoutError:
                if not self._settings.watch or not self._watch.is_due(self._clock()):
                    continue
            await self.reload()

    async def reload(self) -> ReloadReport:
        """Read the configuration now and swap to it. Never raises; one at a time."""
        async with self.lock:
            self._asked.clear()
            self._watch.reading()
            report = await self._attempt()
            self.last = report
            self._results.at(report.result)[0] += 1
            self._successful[0] = 0 if report.result == "refused" else 1
            return report

    async def _attempt(self) -> ReloadReport:
        try:
            new = await asyncio.to_thread(self._load)
            if new.fingerprint == self.current.fingerprint:
                self._watch.follow(new.files)
                self._log("info", "configuration read again: nothing has changed", fingerprint=new.fingerprint)
                return ReloadReport("unchanged", wall())
            warnings = self._apply(new)
            if inspect.isawaitable(warnings):
                warnings = await warnings
        except Exception as error:  # noqa: BLE001  a file that people write may break anything; the old one stays
            self._watch.follow([*self.current.files, *getattr(error, "files", ())])
            text = str(error) or repr(error)
            self._log("error", "new configuration refused, the old one stays in force", error=text)
            return ReloadReport("refused", wall(), error=text)
        return self._applied(new, warnings)

    def _applied(self, new: L, warnings: Sequence[str]) -> ReloadReport:
        self.current = new
        self._watch.follow(new.files)
        self._moment[0] = wall()
        self._log("info", "new configuration in force", fingerprint=new.fingerprint)
        for warning in warnings:
            self._log("warning", warning)
        return ReloadReport("applied", wall(), warnings=tuple(warnings))


def needs_restart(changes: Sequence[tuple[str, object, object]]) -> list[str]:
    """Warnings for values that can't change in a running process, given as (path, old, new)."""
    return [
        f"{path} needs a restart: {old} stays in force instead of {new}" for path, old, new in changes if old != new
    ]
