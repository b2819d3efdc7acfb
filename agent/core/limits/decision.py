"""What every rate limit algorithm answers, and the shape that they share."""

from typing import Any, NamedTuple, Protocol

NEVER = -1.0
"""As `retry_after_s`: nothing to wait for (allowed), or no wait will ever help (the cost exceeds the capacity)."""

EPSILON = 1e-6
"""Share of one unit that rounding may cost: monotonic seconds times a rate are not exact."""

State = list[Any]
"""The numbers that are kept per key. Their meaning belongs to the algorithm; a fresh state is as good as none."""

Decision = tuple[bool, int, float, float]
"""`Taken` as a plain tuple, because making a named one costs more than deciding."""


class Taken(NamedTuple):
    """The answer to one take."""

    allowed: bool
    remaining: int
    """Units that are left at once, after this take."""
    reset_after_s: float
    """Seconds until the key is as good as new, if nothing more is taken."""
    retry_after_s: float
    """Seconds until the same take would be allowed; `NEVER` where it was, or where it never will be."""


class Algorithm(Protocol):
    """One definition of a limit, without any key's state.

    - A refused take costs nothing.
    - A take of zero is allowed unless more than the capacity is in use, and changes nothing.
    - `now` that goes back neither raises nor gives anything out twice.
    """

    capacity: int
    """The most that can be taken at once."""

    def fresh(self, now: float) -> State:
        """The state of a key that was never seen."""

    def take(self, state: State, cost: int, now: float) -> Decision:
        """Take `cost` units if they are there. Changes `state`."""

    def debt(self, state: State, now: float) -> float:
        """Units that still count against the key; 0 where forgetting the state would lose nothing."""
