"""One rate limit counted in this process: an algorithm over a bounded table of keys."""

from collections.abc import Hashable
from typing import Literal

from agent.core.bounded_table import BoundedTable
from agent.core.limits.decision import Algorithm, Decision, State
from agent.core.limits.fixed_window import FixedWindow
from agent.core.limits.gcra import Gcra
from agent.core.limits.sliding_window import SlidingWindow
from agent.core.limits.token_bucket import TokenBucket

AlgorithmName = Literal["token_bucket", "fixed_window", "sliding_window", "gcra"]


def algorithm_of(name: AlgorithmName, limit: int, per_s: float, burst: int) -> Algorithm:
    """Build the algorithm `name`; the windows have no burst of their own."""
    if name == "sliding_window":
        return SlidingWindow(limit, per_s)
    if name == "fixed_window":
        return FixedWindow(limit, per_s)
    return TokenBucket(limit, per_s, burst) if name == "token_bucket" else Gcra(limit, per_s, burst)


def share_of(amount: int, share: float) -> int:
    """The part of `amount` that one of several processes may give out, so that all together never exceed it.

    Raises ValueError where not even one unit is left.
    """
    part = int(amount * share + 1e-9)
    if part < 1:
        raise ValueError(f"{amount} can't be shared by {round(1 / share)} workers: raise it, or run fewer workers")
    return part


class LocalLimit:
    """Takes are atomic, because nothing here awaits."""

    __slots__ = ("algorithm", "table")

    def __init__(self, algorithm: Algorithm, *, max_keys: int, evictions: list[int] | None = None) -> None:
        self.algorithm = algorithm
        self.table: BoundedTable[State] = BoundedTable(max_keys, algorithm.debt, evictions=evictions)

    def take(self, key: Hashable, cost: int, now: float) -> Decision:
        """Take `cost` units from `key` if they are there."""
        state = self.table.states.get(key)
        return self.algorithm.take(self.state_of(key, now) if state is None else state, cost, now)

    def peek(self, key: Hashable, cost: int, now: float) -> Decision:
        """What `take` would answer; changes nothing."""
        state = self.table.states.get(key)
        return self.algorithm.take(self.algorithm.fresh(now) if state is None else state.copy(), cost, now)

    def state_of(self, key: Hashable, now: float) -> State:
        """Start counting for a key that isn't in the table."""
        state = self.algorithm.fresh(now)
        self.table.insert(key, state, now)
        return state

    def adopt(self, old: "LocalLimit") -> None:
        """Go on with the counts of `old`, whose algorithm was defined alike."""
        old.table.resize(self.table.max_keys)
        old.table.evictions = self.table.evictions
        self.table = old.table

    def count(self) -> int:
        """How many keys are being counted."""
        return len(self.table)
