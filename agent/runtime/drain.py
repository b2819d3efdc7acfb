"""Carries out what the lifecycle decides: one timer, no polling, and the exit code in the end."""

import asyncio
from collections.abc import Awaitable, Callable

from agent.core.clock import Clock, monotonic, wall
from agent.core.tasks import spawn
from agent.ports.operator import LifecycleReport
from agent.runtime.lifecycle import FOREVER, Event, Lifecycle, Phase
from agent.runtime.process import Drainable, Log
from agent.runtime.settings import LifecycleSettings

WaitUntilGone = Callable[[], Awaitable[None]]
"""Returns when the application accepts no connections any more."""


class Shutdown:
    """Holds the lifecycle of the running process. Made and used inside its event loop.

    `on_phase` is called after each change of phase. `wait_until_gone` is None where there is no application, or where
    no building block is configured that it could still need: the process then ends with its last request.
    """

    def __init__(
        self,
        settings: LifecycleSettings,
        data_path: Drainable,
        *,
        log: Log,
        on_phase: Callable[[Phase], None] = lambda phase: None,
        wait_until_gone: WaitUntilGone | None = None,
        clock: Clock = monotonic,
    ) -> None:
        self._settings = settings
        self._data_path = data_path
        self._log = log
        self._on_phase = on_phase
        self._wait_until_gone = wait_until_gone
        self._clock = clock
        self._machine = Lifecycle(settings, now=clock(), keep_local_api=wait_until_gone is not None)
        self._timer: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    @property
    def phase(self) -> Phase:
        """Where the process is."""
        return self._machine.phase

    @property
    def is_ending(self) -> bool:
        """The end was asked for and can't be taken back."""
        return self._machine.is_ending

    def report(self) -> LifecycleReport:
        """For operators: in seconds since the Unix epoch."""
        machine, to_wall = self._machine, wall() - self._clock()
        deadline = machine.deadline + to_wall if machine.deadline < FOREVER else None
        return LifecycleReport(
            machine.phase.value,
            machine.since + to_wall,
            deadline,
            self._data_path.in_flight + self._data_path.tunnels,
            self._data_path.connections,
        )

    def post(self, event: Event) -> None:
        """Take an event, and act on it at once."""
        if self._machine.on(event, self._clock()):
            self._entered(self._machine.phase)
        self._set_timer()

    async def wait(self) -> int:
        """Return the exit code when the process is to end: 0 where nothing that was accepted got lost."""
        await self._stopped.wait()
        if self._watching is not None:
            self._watching.cancel()
        tunnels = self._data_path.tunnels
        cut = await self._data_path.abort()
        if cut == 0:
            self._log("info", "stopped; every accepted request was finished", tunnels_cut=tunnels)
            return 0
        reason = "the deadline has passed" if self._clock() >= self._machine.deadline else "a further signal came"
        self._log("error", f"stopped; {reason} and {cut} requests were cut off", requests_cut=cut, tunnels_cut=tunnels)
        return self._settings.cut_exit_code

    def _entered(self, phase: Phase) -> None:
        data_path, machine = self._data_path, self._machine
        fields: dict[str, object] = {"phase": phase.value}
        if machine.is_ending:
            fields["deadline_s"] = round(machine.deadline - self._clock(), 3)
        if phase in {Phase.DEREGISTERING, Phase.DRAINING}:
            fields |= {"in_flight": data_path.in_flight, "connections": data_path.connections}
        self._log("info", f"lifecycle: {phase.value}", **fields)
        self._on_phase(phase)
        if phase is Phase.DRAINING:
            data_path.begin_drain(self._idle)
        elif phase is Phase.APP_GRACE:
            self._watching = spawn(self._watch_app(), name="waiting for the application to end")
        elif phase is Phase.STOPPED:
            self._stopped.set()

    def _idle(self) -> None:
        # Not at once: the data path may call from within begin_drain, while the phase is still being entered.
        asyncio.get_running_loop().call_soon(self.post, Event.IDLE)

    async def _watch_app(self) -> None:
        assert self._wait_until_gone is not None
        await self._wait_until_gone()
        self.post(Event.APP_GONE)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._machine.wake_at < FOREVER:
            delay_s = max(0.0, self._machine.wake_at - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.post, Event.TICK)
