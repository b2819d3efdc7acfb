"""How long an exchange may take, and how what is left of it is told to whoever is called next.

Three limits that don't get in each other's way:

- `timeout_s` ends with the response's head. A response that has begun is never cut by it, however long it streams. It
  begins anew when the request's body is complete: until then only silence counts, for `limits.body_timeout_s`.
- `idle_timeout_s` is silence, no byte of a body in either direction. It begins where `timeout_s` ends.
- `max_duration_s` is the whole exchange, bodies included, and off by default.

A caller says with `X-Outrigger-Deadline-Ms` how many milliseconds it will still wait. That only ever shortens our own
limit, and where it leaves less than half of it, running out of time is not held against the application. It is a hint:
one that can't be read is ignored and counted, since answering 400 would turn a caller's slip in an optional header into
an outage. What is left is forwarded, so that no one works for a caller who has gone.
"""

from math import inf

from pydantic import Field

from agent.core.settings import Settings as SettingsModel
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead

DEADLINE_FIELD = b"x-outrigger-deadline-ms"
"""Never forwarded as it came: replaced by `Timeouts.deadline_line`."""

_MAX_DIGITS = 12
"""Thirty years: a longer number is a mistake, and not worth a big integer."""


class Settings(SettingsModel):
    """Limits of one exchange. `null` switches a limit off."""

    timeout_s: float | None = Field(default=15, gt=0)
    """Seconds to the response's head: queueing, connecting, and all retries. They count from the request's head, and
    anew from the end of its body where it has one, so that a large upload isn't cut for its size."""
    idle_timeout_s: float | None = Field(default=60, gt=0)
    """Seconds without a byte of either body, once the response has begun; for a request's body before that it is
    `limits.body_timeout_s`. For tunnels too."""
    max_duration_s: float | None = Field(default=None, gt=0)
    """Seconds for the whole exchange, both bodies included. For tunnels too."""
    connect_timeout_s: float = Field(default=2, gt=0)
    """Seconds to make a connection. At 2, one lost SYN (sent again after 1 s) doesn't fail the request."""
    forward_deadline: bool = True
    """Tell the callee in `X-Outrigger-Deadline-Ms` how many milliseconds are left."""


class Timeouts:
    """The limits in the form in which the data path reads them: ``inf`` where there is none."""

    __slots__ = (
        "_malformed",
        "connect_s",
        "first_line",
        "first_s",
        "forwards",
        "idle_s",
        "max_duration_s",
        "timeout_s",
    )

    def __init__(self, settings: Settings, *, route: str, registry: Registry) -> None:
        self.timeout_s = settings.timeout_s or inf
        self.idle_s = settings.idle_timeout_s or inf
        self.max_duration_s = settings.max_duration_s or inf
        self.connect_s = settings.connect_timeout_s
        self.first_s = min(self.timeout_s, self.max_duration_s)
        """Seconds from a request's head to the first deadline, where the caller named none."""
        self.first_line = b"x-outrigger-deadline-ms: %d\r\n" % (self.first_s * 1000 - 1) if self.first_s < inf else b""
        """What `deadline_line` says within a millisecond of the head, where the caller named no deadline."""
        self.forwards = settings.forward_deadline
        self._malformed = registry.counter(
            "outrigger_deadline_malformed_total",
            "Requests whose X-Outrigger-Deadline-Ms was ignored because it is no number of milliseconds.",
            ("route",),
        ).at(route)

    def deadline(self, head: RequestHead, now: float, arrived: float | None = None) -> float:
        """By when the response's head has to be there, for a request whose head is complete now.

        Asked once more when a body has come to its end, `arrived` is when the head was complete: our own limit then
        begins anew, but the caller's goes on from where it was.
        """
        limit = now + self.timeout_s
        began = now if arrived is None else arrived
        limit = min(limit, began + self.max_duration_s)
        left_ms = head.fields.get(DEADLINE_FIELD)
        if left_ms is None:
            return limit
        if not left_ms.isdigit() or len(left_ms) > _MAX_DIGITS:
            self._malformed[0] += arrived is None
            return limit
        return min(limit, began + int(left_ms) / 1000)

    def is_hurry(self, left_s: float) -> bool:
        """Whether `left_s` is so much less than our own limit that running out of it isn't the application's failure.

        Else any client could open circuits and have targets ejected for everybody, by deadlines of a millisecond.
        """
        return left_s < self.first_s / 2

    def deadline_line(self, deadline: float, now: float) -> bytes:
        """The header line for the callee, ``b""`` where there is nothing to tell. Rounded down: better early."""
        if deadline == inf or not self.forwards:
            return b""
        return b"x-outrigger-deadline-ms: %d\r\n" % max(0, int((deadline - now) * 1000))
