"""A circuit breaker: stop asking an application that keeps failing, and find out gently when it is well again.

Three states, with the textbook's words (a closed circuit lets the current through):

    state      a request is                     an outcome
    closed     allowed                          is counted; too many failures → open
    open       refused with Retry-After         of an older request is ignored; after `open_s` → half_open
    half_open  a probe, up to `half_open` at    `half_open` successes → closed; one failure → open, for twice as
               a time; all others are refused   long as before where `max_open_s` allows

Rules:

- *Failure*: no answer (unreachable, closed, garbage, timed out) or a status in `failure_statuses` that the application
  or upstream made. Everything else that it answered is a success: 4xx, and 429 too unless listed.
- *Nothing*: the client went away, a later policy refused, the sidecar itself answered, or it cut a response that had
  begun for its silence (event streams and WebSockets may well be quiet). Nothing is counted, and a probe's place is
  given back: a client that hangs up can neither close the circuit nor keep it open.
- Only a failure or a slow call opens the circuit; a success never does, so it costs one addition.
- An outcome belongs to the state in which its request was allowed. Requests from before a trip may take long to fail:
  they are ignored while the circuit is open, and for `probe_timeout_s` after it has closed.
- A probe that isn't heard of for `probe_timeout_s` is given up as lost and replaced: none can wedge the circuit.
- Time passes only with requests: the change from open to half_open happens when the first request comes.
"""

from enum import IntEnum
from math import ceil, inf
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from agent.core.settings import Settings as SettingsModel
from agent.core.window import Window
from agent.ports.policy import Deny, Outcome, Policy, Verdict
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from agent.wire.problem import Refusal

FAILURE_CODES = frozenset({
    "connect_timeout", "timeout", "upstream_closed", "upstream_garbage", "upstream_tls", "upstream_unreachable",
})  # fmt: skip
"""What says that the application is in trouble. Every other code is the sidecar's own decision."""

TIMEOUT_CODES = frozenset({"connect_timeout", "timeout"})

TOTAL, FAILED, SLOW = range(3)
"""Counters of the window."""


class State(IntEnum):
    """The circuit's state; the numbers are those of `outrigger_circuit_breaker_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


def parse_statuses(values: tuple[int | str, ...]) -> frozenset[int]:
    """Read statuses given singly or as ranges: ``(429, "500-599")``. Raises ValueError that says what is wrong."""
    statuses: set[int] = set()
    for value in values:
        first, dash, last = str(value).partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise ValueError(f"{value!r} is no status: write 503 or a range like 500-599")
        low, high = int(first), int(last or first)
        if not 100 <= low <= high <= 599:
            raise ValueError(f"{value!r}: statuses lie between 100 and 599, the lower one first")
        statuses.update(range(low, high + 1))
    return frozenset(statuses)


class Settings(SettingsModel):
    """When a route's or an upstream's circuit opens, and how it closes again."""

    failure_ratio: float | None = Field(default=0.5, gt=0, le=1)
    """Open when this part of the window's requests failed, 0 to 1. `null` switches this criterion off."""
    window_s: float = Field(default=10, ge=0.1, le=3600)
    """Seconds that ratios look back."""
    min_requests: int = Field(default=20, ge=1)
    """Ratios are judged only where the window holds this many outcomes."""
    consecutive_failures: int | None = Field(default=None, ge=1)
    """Open after this many failures in a row, whatever the ratio. Off by default."""
    slow_call_s: float | None = Field(default=None, gt=0)
    """An answer whose head takes this many seconds is slow, and so is a timeout. Off by default."""
    slow_ratio: float = Field(default=0.5, gt=0, le=1)
    """Open when this part of the window's requests was slow, 0 to 1. Needs `slow_call_s`."""
    failure_statuses: tuple[int | str, ...] = ("500-599",)
    """Statuses that count as failures, singly or as ranges: `[429, 500-599]`."""
    open_s: float = Field(default=5, gt=0, le=86400)
    """Seconds for which an open circuit refuses before it lets probes through."""
    max_open_s: float | None = Field(default=None, gt=0, le=86400)
    """Trips that follow each other double the open time up to this many seconds. By default it doesn't grow."""
    half_open: int = Field(default=3, ge=1, le=1000)
    """Probes in flight at a time while half open, and the successes that close the circuit."""
    probe_timeout_s: float = Field(default=30, gt=0, le=86400)
    """Seconds after which a probe without an outcome is given up as lost. Longer than the route's `timeout_s`."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow` decides and records, but never refuses."""

    @field_validator("failure_statuses")
    @classmethod
    def _readable(cls, values: tuple[int | str, ...]) -> tuple[int | str, ...]:
        parse_statuses(values)
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.failure_ratio is None and self.consecutive_failures is None and self.slow_call_s is None:
            raise ValueError("nothing would ever open it: set failure_ratio, consecutive_failures or slow_call_s")
        if self.max_open_s is not None and self.max_open_s < self.open_s:
            raise ValueError(f"max_open_s {self.max_open_s:g} is below open_s {self.open_s:g}")
        return self


class Signals:
    """The metric cells of one circuit."""

    __slots__ = ("rejected", "state", "to")

    def __init__(self, registry: Registry, route: str) -> None:
        states = registry.gauge(
            "outrigger_circuit_breaker_state", "0 closed, 1 half open, 2 open.", ("route",), combine="max"
        )
        self.state = states.at(route)
        moves = registry.counter(
            "outrigger_circuit_breaker_transitions_total", "Changes of a circuit's state.", ("route", "to")
        )
        self.to = {state: moves.at(route, state.name.lower()) for state in State}
        self.rejected = registry.counter(
            "outrigger_circuit_breaker_rejected_total", "Requests that a circuit refused.", ("route",)
        ).at(route)


class Circuit:
    """The state machine: everything that outlives a reload, and nothing of requests but their identity."""

    __slots__ = (
        "_closed_at", "_fresh", "_open_s", "_probes", "_settings", "_signals", "_successes", "_until",
        "is_plain", "state", "streak", "window",
    )  # fmt: skip

    def __init__(self, settings: Settings, signals: Signals) -> None:
        self._settings = settings
        self._signals = signals
        self.state = State.CLOSED
        self.is_plain = True
        """Closed with nothing left to watch: the path on which requests leave no trace here."""
        self.streak = 0
        """Failures since the last success."""
        self.window = Window(settings.window_s, 3)
        self._probes: dict[RequestHead, float] = {}
        """Probes in flight → when they were allowed, oldest first. Heads are kept, so no identity is used twice."""
        self._fresh: set[RequestHead] = set()
        """Requests allowed since the circuit closed, while older ones may still be under way."""
        self._successes = 0
        self._open_s = settings.open_s
        self._until = -inf
        """When an open circuit lets probes through."""
        self._closed_at = -inf
        signals.state[0] = State.CLOSED

    def admit(self, head: RequestHead, now: float) -> float:
        """Let a request through (0.0), or the seconds after which it is worth coming back. For all but `is_plain`."""
        if self.state is State.CLOSED:
            if now - self._closed_at >= self._settings.probe_timeout_s:
                self.is_plain = True
                self._fresh.clear()
            else:
                self._fresh.add(head)
            return 0.0
        if self.state is State.OPEN:
            if now < self._until:
                return self._until - now
            self._move(State.HALF_OPEN)
        if not self._has_place(now):
            return 1.0
        self._probes[head] = now
        return 0.0

    def _has_place(self, now: float) -> bool:
        if len(self._probes) < self._settings.half_open:
            return True
        oldest = next(iter(self._probes))
        if now - self._probes[oldest] < self._settings.probe_timeout_s:
            return False
        del self._probes[oldest]
        return True

    def remaining_s(self, now: float) -> float:
        """Seconds until a request would be let through as far as is known; 0.0 where it would be now."""
        if self.state is State.OPEN:
            return max(0.0, self._until - now)
        if self.state is State.HALF_OPEN and len(self._probes) >= self._settings.half_open:
            oldest = next(iter(self._probes.values()))
            return 1.0 if now - oldest < self._settings.probe_timeout_s else 0.0
        return 0.0

    def nothing(self, head: RequestHead) -> None:
        """The request's end says nothing: give its place back."""
        self._probes.pop(head, None)
        self._fresh.discard(head)

    def succeed(self, head: RequestHead, now: float) -> None:
        """The application answered well."""
        if self.state is State.CLOSED:
            if self._is_current(head):
                self._count(now)
                self.streak = 0
        elif self._probes.pop(head, None) is not None:
            self._successes += 1
            if self._successes >= self._settings.half_open:
                self._close(now)

    def fail(self, head: RequestHead, now: float, *, failed: bool, slow: bool) -> None:
        """The application failed, was too slow, or both."""
        if self.state is State.CLOSED:
            if self._is_current(head):
                self._count(now)
                counts = self.window.counts
                counts[FAILED] += failed
                counts[SLOW] += slow
                self.streak = self.streak + 1 if failed else 0
                if self._is_too_much():
                    self._open(now)
        elif self._probes.pop(head, None) is not None:
            self._open(now)

    def _is_current(self, head: RequestHead) -> bool:
        if self.is_plain:
            return True
        known = head in self._fresh
        self._fresh.discard(head)
        return known

    def _count(self, now: float) -> None:
        if now >= self.window.turn_at:
            self.window.turn(now)
        self.window.counts[TOTAL] += 1

    def _is_too_much(self) -> bool:
        settings, recent = self._settings, self.window.recent
        if settings.consecutive_failures is not None and self.streak >= settings.consecutive_failures:
            return True
        total = recent(TOTAL)
        if total < settings.min_requests:
            return False
        if settings.failure_ratio is not None and recent(FAILED) >= settings.failure_ratio * total:
            return True
        return settings.slow_call_s is not None and recent(SLOW) >= settings.slow_ratio * total

    def _open(self, now: float) -> None:
        settings = self._settings
        follows = self.state is State.HALF_OPEN or now - self._closed_at < settings.window_s
        if follows and settings.max_open_s is not None:
            self._open_s = min(2 * self._open_s, settings.max_open_s)
        else:
            self._open_s = settings.open_s
        self._until = now + self._open_s
        self._move(State.OPEN)

    def _close(self, now: float) -> None:
        self._closed_at = now
        self.streak = 0
        self.window.forget()
        self._move(State.CLOSED)

    def _move(self, to: State) -> None:
        self.state = to
        self.is_plain = False
        self._probes.clear()
        self._fresh.clear()
        self._successes = 0
        self._signals.state[0] = to
        self._signals.to[to][0] += 1


def says_nothing(outcome: Outcome) -> bool:
    """Whether a request's end tells nothing about the application."""
    if outcome.cancelled:
        return True
    if not outcome.code:
        return outcome.origin == "agent"
    if outcome.code in TIMEOUT_CODES:
        return outcome.status != 504  # the client got another one: the response had begun in time
    return outcome.code not in FAILURE_CODES


class CircuitBreaker(Policy):
    """Refuses requests with 503 `circuit_open` while the application or upstream keeps failing."""

    __slots__ = ("_circuit", "_deny", "_deny_s", "_failing", "_refusal", "_signals", "_slow_s", "settings")

    name: ClassVar[str] = "circuit_breaker"
    observes: ClassVar[bool] = True

    def __init__(self, settings: Settings, *, route: str, registry: Registry) -> None:
        self.settings = settings
        self._signals = Signals(registry, route)
        self._circuit = Circuit(settings, self._signals)
        self._failing = parse_statuses(settings.failure_statuses)
        self._slow_s = settings.slow_call_s or inf
        self._refusal = Refusal("circuit_open")
        self._deny_s = 0
        self._deny: Deny | None = None

    @property
    def state(self) -> State:
        """The circuit's state, as it was left by the last request."""
        return self._circuit.state

    def adopt(self, old: Policy) -> bool:
        """Go on with the circuit of a policy from before a reload, where nothing but `mode` differs.

        Both then share it, so that requests still under way in the old chain are heard.
        """
        if not isinstance(old, CircuitBreaker) or self.settings.model_copy(update={"mode": old.settings.mode}) != (
            old.settings
        ):
            return False
        self._circuit = old._circuit
        self._signals.state[0] = self._circuit.state
        return True

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """Allow where the circuit is closed or a probe is wanted."""
        circuit = self._circuit
        if circuit.is_plain:
            return None
        wait_s = circuit.admit(head, now)
        if not wait_s:
            return None
        self._signals.rejected[0] += 1
        return self._deny_for(wait_s)

    def _deny_for(self, wait_s: float) -> Deny:
        seconds = ceil(wait_s - 1e-6) or 1
        if self._deny is None or seconds != self._deny_s:
            self._deny_s = seconds
            why = f"the circuit is {self._circuit.state.name.lower()}: the application kept failing"
            self._deny = Deny(self._refusal, extra=b"retry-after: %d\r\n" % seconds, why=why)
        return self._deny

    def on_response(self, head: RequestHead, outcome: Outcome, now: float) -> None:
        """Count how it ended. The straight path is a few attribute reads and one addition."""
        circuit = self._circuit
        if (
            circuit.is_plain
            and not outcome.code
            and not outcome.cancelled
            and outcome.status not in self._failing
            and outcome.upstream_s < self._slow_s
        ):
            window = circuit.window
            if now >= window.turn_at:
                window.turn(now)
            window.counts[TOTAL] += 1
            circuit.streak = 0
        else:
            self._learn(head, outcome, now)

    def _learn(self, head: RequestHead, outcome: Outcome, now: float) -> None:
        code = outcome.code
        if says_nothing(outcome):
            self._circuit.nothing(head)
            return
        failed = bool(code) or outcome.status in self._failing
        slow = self._slow_s < inf and (outcome.upstream_s >= self._slow_s or code in TIMEOUT_CODES)
        if failed or slow:
            self._circuit.fail(head, now, failed=failed, slow=slow)
        else:
            self._circuit.succeed(head, now)

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """The circuit's state in a sentence."""
        del head
        state, wait_s = self._circuit.state, self._circuit.remaining_s(now)
        if wait_s:
            return "deny", f"the circuit is {state.name.lower()}; it is worth trying again in {ceil(wait_s - 1e-6)} s"
        if state is State.CLOSED:
            return "allow", "the circuit is closed"
        return "allow", "the circuit is half open: the request would be a probe"
