"""The phases of the process as a machine without a clock: events and the time go in, the phase comes out.

=============  ==================  ================  ==================  ==============================  ============
phase          readiness           new connections   local API           leaves when                     for
=============  ==================  ================  ==================  ==============================  ============
starting       off                 none yet          up                  STARTED                         running
..                                                                       any signal                      draining
running        as components are   accepted          up                  HOLD (`POST /drain`)            deregistering
..                                                                       TERMINATE, INTERRUPT            deregistering
deregistering  off                 accepted          up                  RESUME, before any signal       running
..                                                                       grace is over, second signal    draining
draining       off                 refused           up                  IDLE: nothing in flight         app_grace
..                                                                       deadline, second signal         stopped (cut)
app_grace      off                 refused           up                  APP_GONE, deadline, its own     stopped
..                                                                       grace is over, any signal
stopped        off                 refused           down                never
=============  ==================  ================  ==================  ==============================  ============

Grace counts from the moment when readiness went off: who called `POST /drain` in a `preStop` hook doesn't wait twice.
The deadline counts from the first signal and holds for all phases together. A further signal always goes one step on.
"""

from enum import StrEnum

from agent.runtime.settings import LifecycleSettings

FOREVER = float("inf")


class Phase(StrEnum):
    """Where the process is between start and end."""

    STARTING = "starting"
    RUNNING = "running"
    DEREGISTERING = "deregistering"
    DRAINING = "draining"
    APP_GRACE = "app_grace"
    STOPPED = "stopped"


class Event(StrEnum):
    """What moves the process from one phase to another."""

    STARTED = "started"
    HOLD = "hold"
    RESUME = "resume"
    TERMINATE = "terminate"
    INTERRUPT = "interrupt"
    IDLE = "idle"
    APP_GONE = "app_gone"
    TICK = "tick"


_SIGNALS = frozenset({Event.TERMINATE, Event.INTERRUPT})


class Lifecycle:
    """The machine. `now` is in monotonic seconds and never goes back."""

    def __init__(self, settings: LifecycleSettings, *, now: float, keep_local_api: bool) -> None:
        """`keep_local_api`: whether the application may still need the local API after its last request."""
        self._settings = settings
        self._keep_local_api = keep_local_api
        self._unready_at = 0.0
        self.phase = Phase.STARTING
        self.since = now
        self.deadline = FOREVER
        """When everything ends; FOREVER until a signal has come."""
        self.wake_at = FOREVER
        """When the machine wants a TICK."""
        self.cut = False
        """It stopped while work was in flight."""

    @property
    def is_ending(self) -> bool:
        """A signal has come: there is no way back."""
        return self.deadline < FOREVER

    def on(self, event: Event, now: float) -> bool:
        """Take an event. Returns whether the phase changed; one that makes no sense now is ignored."""
        before = self.phase
        if event in _SIGNALS:
            self._on_signal(event, now)
        elif event is Event.TICK:
            self._on_tick(now)
        else:
            self._on_news(event, now)
        return self.phase is not before

    def _on_signal(self, event: Event, now: float) -> None:
        first = not self.is_ending
        if first:
            self.deadline = now + self._settings.drain_s
        if self.phase is Phase.STARTING:
            self._enter(Phase.DRAINING, now, self.deadline)
        elif self.phase in {Phase.RUNNING, Phase.DEREGISTERING} and first:
            self._deregister(event, now)
        elif self.phase is Phase.DEREGISTERING:
            self._enter(Phase.DRAINING, now, self.deadline)
        elif self.phase in {Phase.DRAINING, Phase.APP_GRACE}:
            self._stop(now)

    def _deregister(self, event: Event, now: float) -> None:
        settings = self._settings
        grace_s = settings.interrupt_grace_s if event is Event.INTERRUPT else settings.grace_s
        if self.phase is Phase.RUNNING:
            self._enter(Phase.DEREGISTERING, now)
            self._unready_at = now
        self.wake_at = self._unready_at + grace_s
        self._on_tick(now)

    def _on_tick(self, now: float) -> None:
        if now < self.wake_at:
            return
        if self.phase is Phase.DEREGISTERING:
            self._enter(Phase.DRAINING, now, self.deadline)
        elif self.phase in {Phase.DRAINING, Phase.APP_GRACE}:
            self._stop(now)

    def _on_news(self, event: Event, now: float) -> None:
        if event is Event.STARTED and self.phase is Phase.STARTING:
            self._enter(Phase.RUNNING, now)
        elif event is Event.HOLD and self.phase is Phase.RUNNING:
            self._enter(Phase.DEREGISTERING, now)
            self._unready_at = now
        elif event is Event.RESUME and self.phase is Phase.DEREGISTERING and not self.is_ending:
            self._enter(Phase.RUNNING, now)
        elif event is Event.IDLE and self.phase is Phase.DRAINING:
            self._leave_draining(now)
        elif event is Event.APP_GONE and self.phase is Phase.APP_GRACE:
            self._stop(now)

    def _leave_draining(self, now: float) -> None:
        grace_s = self._settings.local_api_grace_s
        if not self._keep_local_api or grace_s == 0:
            self._enter(Phase.STOPPED, now)
            return
        end = self.deadline if grace_s is None else min(self.deadline, now + grace_s)
        self._enter(Phase.APP_GRACE, now, end)

    def _stop(self, now: float) -> None:
        self.cut = self.phase is Phase.DRAINING
        self._enter(Phase.STOPPED, now)

    def _enter(self, phase: Phase, now: float, wake_at: float = FOREVER) -> None:
        self.phase, self.since, self.wake_at = phase, now, wake_at
