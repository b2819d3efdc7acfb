"""Token bucket: a bucket of `burst` tokens that refills steadily with `limit` tokens per `per_s` seconds.

In any interval of d seconds at most ``burst + d * limit / per_s`` are admitted. State: ``[tokens, at]``.
"""

from agent.core.limits.decision import EPSILON, NEVER, Decision, State


class TokenBucket:
    """`burst` is the whole capacity, as in Envoy's `max_tokens`, not an addition to `limit`."""

    __slots__ = ("capacity", "rate")

    def __init__(self, limit: int, per_s: float, burst: int) -> None:
        self.capacity = burst
        self.rate = limit / per_s

    def fresh(self, now: float) -> State:
        """A full bucket."""
        return [self.capacity, now]

    def take(self, state: State, cost: int, now: float) -> Decision:
        """Take `cost` tokens if the bucket holds them; a refusal takes none."""
        tokens, at = state
        capacity = self.capacity
        if now > at:  # going back refills nothing, and what was refilled up to `at` isn't refilled again
            tokens += (now - at) * self.rate
            if tokens > capacity:  # noqa: PLR1730  min() is a call
                tokens = capacity
            state[0] = tokens
            state[1] = now
        left = tokens - cost
        if left < -EPSILON:
            retry_after_s = -left / self.rate if cost <= capacity else NEVER
            return False, int(tokens + EPSILON), (capacity - tokens) / self.rate, retry_after_s
        if left < 0.0:  # noqa: PLR1730  max() is a call
            left = 0.0
        state[0] = left
        return True, int(left + EPSILON), (capacity - left) / self.rate, NEVER

    def debt(self, state: State, now: float) -> float:
        """Tokens that are missing to a full bucket."""
        tokens, at = state
        missing: float = self.capacity - tokens - max(0.0, now - at) * self.rate
        return max(0.0, missing)
