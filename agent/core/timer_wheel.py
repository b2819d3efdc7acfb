"""A lazy wheel of deadlines: moving one later is an attribute assignment, no loop timer per request.

An object to time has a `deadline` (monotonic seconds, or infinity) and a `wheel_at`, which is the wheel's own: the
moment from which the wheel looks at it. The owner's whole duty per request is

    obj.deadline = now + timeout_s
    if obj.deadline < obj.wheel_at:
        wheel.watch(obj)

When its slot comes, an object is fired if its deadline has passed, filed again if it moved, and dropped if it is
infinite. So an object that is busy for hours costs one look per time-out, not one timer per request.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Protocol

NEAR_TICKS = 64
"""Deadlines within this many ticks have slots of their own; farther ones share slots of 64 and 4,096 ticks.

An object in a shared slot is looked at early and filed again nearer. So there are never more than a few hundred slots,
however far the deadlines are.
"""


class Timed(Protocol):
    """Whatever has a deadline. `wheel_at` starts as infinity and belongs to the wheel."""

    deadline: float
    wheel_at: float

    def on_deadline(self, now: float) -> None:
        """The deadline has passed. May set a new one and watch again."""


class TimerWheel:
    """Deadlines in slots of `tick_s`; nothing fires early, and at most one tick late after `advance`."""

    __slots__ = ("_last", "_on_error", "_per_second", "_slots", "_tick_s", "_ticks")

    def __init__(
        self, tick_s: float = 0.02, *, now: float = 0.0, on_error: Callable[[Exception], None] | None = None
    ) -> None:
        """`on_error` gets what a callback raises; without it `advance` raises all of it as an ExceptionGroup."""
        self._tick_s = tick_s
        self._per_second = 1.0 / tick_s
        self._on_error = on_error
        self._slots: dict[int, dict[Timed, None]] = {}
        self._ticks: list[int] = []
        self._last = int(now * self._per_second) - 1
        """The last tick whose slot was emptied; nothing is filed at or before it."""

    def watch(self, obj: Timed) -> None:
        """File `obj` at its deadline. To be called when that is earlier than its `wheel_at`."""
        if obj.wheel_at != inf:
            self._take_out(obj)
        self._file(obj)

    def forget(self, obj: Timed) -> None:
        """Let go of `obj` at once: for closed connections, which would otherwise be kept until their slot comes."""
        if obj.wheel_at != inf:
            self._take_out(obj)
            obj.wheel_at = inf

    def next_at(self) -> float | None:
        """When to call `advance` next; None while nothing is watched."""
        ticks = self._ticks
        while ticks and not self._slots[ticks[0]]:
            del self._slots[heappop(ticks)]
        return (ticks[0] + 1) * self._tick_s if ticks else None

    def advance(self, now: float) -> None:
        """Fire and re-file what is due at `now`. One callback's exception doesn't keep others from being fired."""
        last = int(now * self._per_second) - 1
        while (last + 2) * self._tick_s <= now:
            last += 1
        self._last = max(self._last, last)
        ticks, slots = self._ticks, self._slots
        errors: list[Exception] = []
        while ticks and (ticks[0] + 1) * self._tick_s <= now:
            tick = heappop(ticks)
            self._last = max(self._last, tick)
            self._empty(slots.pop(tick), tick * self._tick_s, now, errors)
        if errors and self._on_error is None:
            raise ExceptionGroup("deadline callbacks failed", errors)

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def _empty(self, slot: "dict[Timed, None]", at: float, now: float, errors: list[Exception]) -> None:
        for obj in slot:
            if obj.wheel_at != at:
                continue  # a callback of this very round has moved or forgotten it
            obj.wheel_at = inf
            if obj.deadline > now:
                if obj.deadline != inf:
                    self._file(obj)
                continue
            try:
                obj.on_deadline(now)
            except Exception as error:  # noqa: BLE001  the others have deadlines too
                if self._on_error is not None:
                    self._on_error(error)
                errors.append(error)

    def _file(self, obj: Timed) -> None:
        deadline = obj.deadline
        if deadline == inf:
            obj.wheel_at = inf
            return
        tick = int(deadline * self._per_second)
        ahead = tick - self._last
        if ahead <= 0:
            tick = self._last + 1
        elif ahead > NEAR_TICKS:
            tick &= -NEAR_TICKS if ahead < NEAR_TICKS * NEAR_TICKS else -NEAR_TICKS * NEAR_TICKS
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = {obj: None}
            heappush(self._ticks, tick)
        else:
            slot[obj] = None
        obj.wheel_at = tick * self._tick_s

    def _take_out(self, obj: Timed) -> None:
        slot = self._slots.get(round(obj.wheel_at * self._per_second))
        if slot is not None:
            slot.pop(obj, None)
