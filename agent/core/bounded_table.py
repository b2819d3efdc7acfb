"""A map from keys that strangers choose to states, in bounded memory and constant time."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

S = TypeVar("S")

_PROBES_FULL = 8
_PROBES_GROWING = 2


class BoundedTable(Generic[S]):
    """Holds at most `max_keys` states; a full table forgets the one that is worth least.

    - `debt(state, now)` says how much would be lost by forgetting: 0 is an expired state, which always goes first.
    - Each insertion looks at a few entries, oldest first, and the next one at those after (a clock's hand): expired
      entries go even while there is room, so the table shrinks to the keys in use.
    - Where the table is full and none of them has expired, the one with the least debt goes, the older of equals. So a
      flood of fresh keys can't wash out a key that is at its limit.

    Reading goes straight to the dict `states`: no promotion, no second structure to keep in step on the hot path.
    """

    __slots__ = ("_debt", "_hand", "_ring", "evictions", "max_keys", "states")

    def __init__(self, max_keys: int, debt: Callable[[S, float], float], *, evictions: list[int] | None = None) -> None:
        self.max_keys = max_keys
        self.states: dict[Hashable, S] = {}
        """Read it freely; write by `insert` only."""
        self.evictions = [0] if evictions is None else evictions
        """One cell: states forgotten although they still counted. A metric's cell may be passed in."""
        self._debt = debt
        self._ring: list[Hashable] = []
        self._hand = 0

    def __len__(self) -> int:
        return len(self.states)

    def insert(self, key: Hashable, state: S, now: float) -> None:
        """Add or replace; may forget others."""
        if key in self.states:
            self.states[key] = state
            return
        full = len(self._ring) >= self.max_keys
        place = self._victim(now, _PROBES_FULL) if full else -1
        if not full:
            self._drop_expired(now)
        self.states[key] = state
        if place < 0:
            self._ring.append(key)
        else:
            del self.states[self._ring[place]]
            self._ring[place] = key

    def resize(self, max_keys: int) -> None:
        """Change the bound; a smaller one forgets at once."""
        self.max_keys = max_keys
        while len(self._ring) > max_keys:
            self._remove(self._victim(0.0, _PROBES_FULL))  # whose debt is less is the same at any moment

    def _victim(self, now: float, probes: int) -> int:
        """Where in the ring the least valuable of the next few is. Counts an eviction unless it has expired."""
        ring = self._ring
        victim, least = 0, float("inf")
        for _ in range(min(probes, len(ring))):
            place = self._hand if self._hand < len(ring) else 0
            self._hand = place + 1
            debt = self._debt(self.states[ring[place]], now)
            if debt <= 0.0:
                return place
            if debt < least:
                victim, least = place, debt
        self.evictions[0] += 1
        return victim

    def _drop_expired(self, now: float) -> None:
        for _ in range(min(_PROBES_GROWING, len(self._ring))):
            place = self._hand if self._hand < len(self._ring) else 0
            if self._debt(self.states[self._ring[place]], now) <= 0.0:
                self._remove(place)
                self._hand = place
            else:
                self._hand = place + 1

    def _remove(self, place: int) -> None:
        del self.states[self._ring[place]]
        last = self._ring.pop()
        if place < len(self._ring):
            self._ring[place] = last
