"""Sliding window: the last `per_s` seconds counted in ten slots, the leaving one weighted by what is left of it.

The usual weighted counter has two slots, one per window, and so admits nearly twice the limit to who sends bursts at
the ends of two windows, and holds a burst against a client for two windows. Ten slots cost the same arithmetic:

- in any interval of ``0.9 * per_s`` seconds at most `limit` are admitted;
- in any interval of `per_s` seconds at most ``2 * limit``: what exceeds the limit comes in the last tenth, as the
  oldest slot fades;
- nothing older than ``1.1 * per_s`` seconds counts.

State: ``[start of the current slot, sum of all whole slots, the leaving slot, current slot, the one before, …]``.
"""

from agent.core.limits.decision import EPSILON, NEVER, Decision, State

SLOTS = 10
_START, _TOTAL, _LEAVING, _CURRENT = range(4)


class SlidingWindow:
    """The default: what people expect of "100 per minute"."""

    __slots__ = ("_fade", "_slot_s", "_span_s", "capacity")

    def __init__(self, limit: int, per_s: float) -> None:
        self.capacity = limit
        self._slot_s = per_s / SLOTS
        self._fade = SLOTS / per_s
        self._span_s = per_s + self._slot_s

    def fresh(self, now: float) -> State:
        """An empty window whose current slot starts now."""
        return [now] + [0] * (_CURRENT + SLOTS - 1)

    def take(self, state: State, cost: int, now: float) -> Decision:
        """Count `cost` if the window has room; a refusal isn't counted."""
        elapsed_s = now - state[0]
        if elapsed_s >= self._slot_s:
            elapsed_s = self._roll(state, elapsed_s, now)
        elif elapsed_s < 0.0:
            elapsed_s = 0.0
        left = self.capacity - cost - state[1]
        leaving = state[2]
        if leaving:  # whole units: steady traffic at exactly the limit must not fail by a fraction of one
            left -= int(leaving * (1.0 - elapsed_s * self._fade))
        if left < 0:
            return self._refuse(state, cost, elapsed_s, left)
        if not cost:
            return True, left, self._reset_after_s(state, elapsed_s), NEVER
        state[1] += cost
        state[3] += cost
        return True, left, self._span_s - elapsed_s, NEVER

    def debt(self, state: State, now: float) -> float:
        """What the window still counts."""
        steps = int((now - state[_START]) / self._slot_s)
        if steps > SLOTS:
            return 0.0
        newest = state[_CURRENT : len(state) - steps + 1] if steps > 0 else (state[_TOTAL], state[_LEAVING])
        return float(sum(newest))

    def _roll(self, state: State, elapsed_s: float, now: float) -> float:
        """Move on to the slot that `now` is in; returns the seconds since its start."""
        steps = int(elapsed_s / self._slot_s)
        if steps > SLOTS:
            state[:] = self.fresh(now)
            return 0.0
        for _ in range(steps):
            state.insert(_CURRENT, 0)
            state[_LEAVING] = leaving = state.pop()
            state[_TOTAL] -= leaving
        start: float = state[_START] + steps * self._slot_s
        state[_START] = start
        return max(0.0, now - start)

    def _refuse(self, state: State, cost: int, elapsed_s: float, left: int) -> Decision:
        reset_after_s = self._reset_after_s(state, elapsed_s)
        retry_after_s = self._fades_in_s(state, elapsed_s, -left) if cost <= self.capacity else NEVER
        return False, max(0, left + cost), reset_after_s, retry_after_s

    def _fades_in_s(self, state: State, elapsed_s: float, units: int) -> float:
        """Seconds until `units` of what is counted now will have faded."""
        rest = 1.0 - elapsed_s * self._fade
        wait_s: float = self._slot_s * EPSILON
        for slot in (state[_LEAVING], *reversed(state[_CURRENT:])):
            counted = int(slot * rest)
            if units <= counted:
                wait_s += (rest - (counted - units + 1) / slot) * self._slot_s
                break
            units -= counted
            wait_s += rest * self._slot_s
            rest = 1.0
        return wait_s

    def _reset_after_s(self, state: State, elapsed_s: float) -> float:
        """Seconds until nothing is counted any more."""
        for age in range(SLOTS):
            if state[_CURRENT + age]:
                return float(self._span_s - elapsed_s - age * self._slot_s)
        return self._slot_s - elapsed_s if state[_LEAVING] else 0.0
