"""Generic cell rate algorithm: a token bucket that keeps one number per key, the theoretical arrival time.

The arrival time is when the key will have paid for everything that it took; it may run ahead of `now` by the time
that `burst` units are worth. In any interval of d seconds at most ``burst + d * limit / per_s`` are admitted.
State: ``[arrival]``.
"""

from agent.core.limits.decision import EPSILON, NEVER, Decision, State


class Gcra:
    """`burst` is the whole capacity (redis-cell's `max_burst` plus one)."""

    __slots__ = ("_slack_s", "_tolerance_s", "capacity", "interval_s")

    def __init__(self, limit: int, per_s: float, burst: int) -> None:
        self.capacity = burst
        self.interval_s = per_s / limit
        """Seconds that one unit is worth."""
        self._tolerance_s = self.interval_s * burst
        self._slack_s = self.interval_s * EPSILON

    def fresh(self, now: float) -> State:
        """A key that owes nothing."""
        return [now]

    def take(self, state: State, cost: int, now: float) -> Decision:
        """Move the arrival time by `cost` units if it stays within the tolerance; a refusal moves nothing."""
        ahead_s = state[0] - now
        if ahead_s < 0.0:  # noqa: PLR1730  max() is a call
            ahead_s = 0.0
        interval_s = self.interval_s
        after_s = ahead_s + cost * interval_s
        room_s = self._tolerance_s - after_s
        if room_s < -self._slack_s:
            remaining = int((self._tolerance_s - ahead_s) / interval_s + EPSILON)
            return False, max(0, remaining), ahead_s, -room_s if cost <= self.capacity else NEVER
        if cost:
            state[0] = now + after_s
        return True, max(0, int(room_s / interval_s + EPSILON)), after_s, NEVER

    def debt(self, state: State, now: float) -> float:
        """Units that aren't paid for yet."""
        ahead_s: float = state[0] - now
        return max(0.0, ahead_s / self.interval_s)
