"""Fixed window: a count that starts again every `per_s` seconds, from the key's own first request.

Each key has its own windows, so that not all clients come back at the same second. A window's end and the next one's
start may be used up together: in any interval of `per_s` seconds at most ``2 * limit`` are admitted.
State: ``[start, count]``.
"""

from agent.core.limits.decision import NEVER, Decision, State


class FixedWindow:
    """The cheapest to explain; take the sliding window where twice the limit at a boundary hurts."""

    __slots__ = ("_end_s", "capacity", "per_s")

    def __init__(self, limit: int, per_s: float) -> None:
        self.capacity = limit
        self.per_s = per_s
        self._end_s = per_s * (1.0 - 1e-9)  # who waits as long as was said must not fail by a rounding

    def fresh(self, now: float) -> State:
        """A window that starts now."""
        return [now, 0]

    def take(self, state: State, cost: int, now: float) -> Decision:
        """Count `cost` if the window has room; a refusal isn't counted."""
        start, used = state
        elapsed_s = now - start
        if elapsed_s >= self._end_s:
            state[0], state[1] = now, 0
            elapsed_s = 0.0
            used = 0
        left = self.capacity - used - cost
        if left < 0:
            reset_after_s = self.per_s - elapsed_s if used else 0.0
            return False, left + cost, reset_after_s, reset_after_s if cost <= self.capacity else NEVER
        state[1] = used + cost
        return True, left, self.per_s - elapsed_s if state[1] else 0.0, NEVER

    def debt(self, state: State, now: float) -> float:
        """What the current window counted."""
        return state[1] if now - state[0] < self._end_s else 0.0
