"""When a request is sent once more: only where that is safe, within the deadline, and under a budget.

The rule is asked after each try that failed. It answers with a pause or with no; whoever owns the sockets acts.

- *Safe*: nothing of the response has reached the client, and either nothing was sent at all (`connect`), or the method
  is idempotent (RFC 9110, section 9.2.2), or the client vouches for it with an `Idempotency-Key`. A POST is never sent
  twice on a hunch.
- *Full jitter*: the pause before the next try is uniform between 0 and ``min(max_backoff_s, backoff_s * 2**n)``, n the
  retries so far, so that requests that failed together don't come back together.
- *Budget*: retries are at most a part of the recent requests, so that they can't multiply the load of an application
  that is already failing. A retry is charged when it is decided, so those that still wait in their pause count.
"""

from datetime import UTC, datetime
from random import Random
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, model_validator

from agent.core.settings import Settings as SettingsModel
from agent.core.window import Window
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead

CAUSES: dict[str, str] = {
    "upstream_unreachable": "connect",
    "connect_timeout": "connect",
    "upstream_tls": "connect",
    "upstream_closed": "reset",
    "upstream_garbage": "reset",
    "timeout": "timeout",
}
"""Failure code (see `agent.wire.codes`) → the cause as `on` names it."""

STATUSES: dict[str, frozenset[int]] = {
    "5xx": frozenset(range(500, 600)),
    "gateway_error": frozenset({502, 503, 504}),
}

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_REQUESTS, _RETRIES = range(2)


class BudgetSettings(SettingsModel):
    """How much of the traffic may be retries."""

    ratio: float = Field(default=0.2, ge=0, le=1)
    """Retries within the window are at most this part of the requests within it, 0 to 1."""
    min_per_s: float = Field(default=3, ge=0)
    """Retries per second, averaged over the window, that are allowed however few requests there are."""
    window_s: float = Field(default=10, ge=1, le=3600)
    """Seconds that the budget looks back. Longer than the longest pause."""


class Settings(SettingsModel):
    """Whether, when and how often a route's or an upstream's requests are tried again."""

    attempts: int = Field(default=2, ge=1, le=10)
    """Tries in TOTAL, the first one included: 2 means one retry, 1 means none. (Envoy's `num_retries` is one less.)"""
    on: tuple[
        Literal["connect", "reset", "timeout", "5xx", "gateway_error"] | Annotated[int, Field(ge=400, le=599)], ...
    ] = ("connect", "reset", 502, 503, 504)
    """What is tried again: `connect` (no connection was made), `reset` (it broke before a whole response head),
    `timeout` (a try took `per_try_timeout_s`), `5xx`, `gateway_error` (502, 503, 504), or single statuses from 400."""
    backoff_s: float = Field(default=0.025, ge=0, le=60)
    """Upper end of the random pause before the first retry; it doubles with every further one."""
    max_backoff_s: float = Field(default=0.25, ge=0, le=60)
    """Upper end of any pause."""
    methods: tuple[str, ...] = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
    """Methods that may be sent twice. Any other may be too where the request carries an `Idempotency-Key`."""
    replay_bytes: int = Field(default=65536, ge=0, le=16777216)
    """Largest request body that is kept for a retry; a request with a larger one isn't tried again."""
    per_try_timeout_s: float | None = Field(default=None, gt=0)
    """Seconds until one try's response head; the route's `timeout_s` bounds all tries together."""
    max_retry_after_s: float = Field(default=1, ge=0, le=3600)
    """A `Retry-After` up to this is waited for; a longer one means no retry."""
    budget: BudgetSettings = BudgetSettings()
    """Bounds the retries of all requests together."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow` counts what would have been tried again, and tries nothing again."""

    @model_validator(mode="before")
    @classmethod
    def _on_is_a_word(cls, values: Any) -> Any:
        """YAML 1.1 reads the bare key ``on`` as true."""
        if isinstance(values, dict) and True in values and "on" not in values:
            return {"on" if key is True else key: value for key, value in values.items()}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.max_backoff_s < self.backoff_s:
            raise ValueError(f"max_backoff_s {self.max_backoff_s:g} is below backoff_s {self.backoff_s:g}")
        if "timeout" in self.on and self.per_try_timeout_s is None:
            raise ValueError("`timeout` in `on` needs per_try_timeout_s: timeout_s leaves no time for another try")
        return self


class Sent(Protocol):
    """What the rule needs to know about a request under way."""

    replayable: bool
    """What `RetryRule.replayable` said of its head."""
    tries: int
    """Tries so far, the one that just failed included."""
    body_kept: bool
    """All that was taken of the client's body can be sent again."""
    response_started: bool
    """A byte of the response has been sent to the client."""
    deadline: float
    """Monotonic seconds by which the response head has to be there; ``inf`` where there is no limit."""


class RetryBudget:
    """At most `ratio` of the recent requests are retries, or `min_per_s`, whichever is more. Constant memory."""

    __slots__ = ("_floor", "_ratio", "_window", "settings")

    def __init__(self, settings: BudgetSettings) -> None:
        self.settings = settings
        self._ratio = settings.ratio
        self._floor = settings.min_per_s * settings.window_s
        self._window = Window(settings.window_s, 2)

    def on_request(self, now: float) -> None:
        """Count a request's first try."""
        window = self._window
        if now >= window.turn_at:
            window.turn(now)
        window.counts[_REQUESTS] += 1

    def try_take(self, now: float) -> bool:
        """Charge one retry, or refuse it."""
        window = self._window
        if now >= window.turn_at:
            window.turn(now)
        allowance = max(self._ratio * window.recent(_REQUESTS), self._floor)
        if window.recent(_RETRIES) + 1 > allowance + 1e-9:
            return False
        window.counts[_RETRIES] += 1
        return True


class RetryRule:
    """One route's rule. `rand` makes the jitter."""

    __slots__ = (
        "_denied", "_methods", "_rand", "_retried", "_route", "_statuses", "_words",
        "budget", "per_try_timeout_s", "replay_bytes", "settings",
    )  # fmt: skip

    def __init__(self, settings: Settings, *, route: str, registry: Registry, rand: Random) -> None:
        self.settings = settings
        self.budget = RetryBudget(settings.budget)
        self.replay_bytes = settings.replay_bytes
        """Bytes of a body to keep while the first try is under way."""
        self.per_try_timeout_s = settings.per_try_timeout_s or float("inf")
        self._rand = rand
        self._route = route
        self._methods = frozenset(method.upper().encode() for method in settings.methods)
        self._words = frozenset(word for word in settings.on if isinstance(word, str)) - STATUSES.keys()
        self._statuses = frozenset(status for status in settings.on if isinstance(status, int)).union(
            *(STATUSES[word] for word in settings.on if isinstance(word, str) and word in STATUSES)
        )
        self._retried = registry.counter(
            "outrigger_retries_total", "Requests that were sent once more, by what went wrong.", ("route", "cause")
        )
        self._denied = registry.counter(
            "outrigger_retries_denied_total",
            "Failed tries that weren't repeated although they could be, by what stood against it.",
            ("route", "reason"),
        )

    def adopt(self, old: "RetryRule") -> bool:
        """Go on with the budget of a rule from before a reload, where its definition is the same."""
        if self.budget.settings != old.budget.settings:
            return False
        self.budget = old.budget
        return True

    def replayable(self, head: RequestHead) -> bool:
        """Whether the application may see this request twice, and its body (if its length is known) may be kept."""
        if head.upgrade or head.content_length > self.replay_bytes:
            return False
        return head.method in self._methods or b"idempotency-key" in head.fields

    def wants(self, status: int) -> bool:
        """Whether an answer with this status is a reason to try again: one look-up for the straight path."""
        return status in self._statuses

    def try_deadline(self, now: float, deadline: float) -> float:
        """By when the response head of a try that begins now has to be there."""
        return min(deadline, now + self.per_try_timeout_s)

    def after(self, sent: Sent, cause: str | int, now: float, retry_after_s: float = -1.0) -> float | None:
        """Seconds to wait before the next try, or None where there is none.

        `cause` is a word of `CAUSES` or the status that was answered; `retry_after_s` what its `Retry-After` said, -1
        where it said nothing. A pause that is returned has been charged to the budget.
        """
        if (cause not in self._words and cause not in self._statuses) or sent.response_started:
            return None
        if not sent.replayable and cause != "connect":
            return None
        pause_s = self._pause_s(sent.tries, retry_after_s)
        objection = self._objection(sent, now + pause_s, now, retry_after_s)
        if objection:
            self._denied.at(self._route, objection)[0] += 1
            return None
        self._retried.at(self._route, str(cause))[0] += 1
        return pause_s

    def _pause_s(self, tries: int, retry_after_s: float) -> float:
        settings = self.settings
        longest_s = min(settings.max_backoff_s, settings.backoff_s * 2.0 ** (tries - 1))
        return max(self._rand.uniform(0, longest_s), retry_after_s)

    def _objection(self, sent: Sent, resume_at: float, now: float, retry_after_s: float) -> str:
        """Why not, cheapest question first; the budget is asked last since asking charges it."""
        if sent.tries >= self.settings.attempts:
            return "exhausted"
        if not sent.body_kept:
            return "body"
        if retry_after_s > self.settings.max_retry_after_s:
            return "retry_after"
        if resume_at >= sent.deadline:
            return "deadline"
        if not self.budget.try_take(now):
            return "budget"
        return "shadow" if self.settings.mode == "shadow" else ""


def parse_retry_after(value: bytes, wall: float) -> float:
    """Seconds that a `Retry-After` asks for (RFC 9110, section 10.2.3), -1.0 where it can't be read.

    `wall` is the time of day in seconds since the epoch, for the form that names a date.
    """
    if value.isdigit():
        return float(value[:9])
    try:
        _, day, month, year, clock, zone = value.split(b" ")
        hour, minute, second = clock.split(b":")
        if zone != b"GMT":
            return -1.0
        date = datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return -1.0
    return max(0.0, date.timestamp() - wall)
