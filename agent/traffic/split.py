"""One of several ways by weight, at random or always the same for the same key."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from math import log
from random import Random
from typing import Generic, TypeVar

from agent.traffic.sticky import StickyKey, hash64, mix64
from agent.wire.head import RequestHead

T = TypeVar("T")


class Split(Generic[T]):
    """Ways with weights. With a key it is weighted rendezvous hashing.

    So a key keeps its way over restarts and in every worker, and when weights change only as many keys move as must.
    """

    __slots__ = ("_bounds", "_key", "_random", "_seeds", "_ways")

    def __init__(self, choices: Iterable[tuple[str, int, T]], rand: Random, key: StickyKey | None = None) -> None:
        """`choices`: name, weight and what to answer. Weight 0 gets nothing. Raises ValueError where all are 0."""
        kept = [choice for choice in choices if choice[1] > 0]
        if not kept:
            raise ValueError("a split needs at least one way with a weight above 0")
        self._ways = tuple(way for _, _, way in kept)
        self._bounds = list(accumulate(weight for _, weight, _ in kept))
        self._seeds = tuple((hash64(name.encode()), weight) for name, weight, _ in kept)
        self._random = rand.random
        self._key = key

    def __call__(self, head: RequestHead) -> T:
        """The way of this request."""
        bounds = self._bounds
        if len(bounds) == 1:
            return self._ways[0]
        if self._key is None:
            return self._ways[bisect_right(bounds, self._random() * bounds[-1])]
        return self._ways[self._by_key(self._key(head))]

    def _by_key(self, key: int) -> int:
        best, least = 0, float("inf")
        for place, (seed, weight) in enumerate(self._seeds):
            # exponential with rate `weight`: the smallest is this way's with probability weight / sum of weights
            score = -log((mix64(key, seed) + 1) / 2**64) / weight
            if score < least:
                best, least = place, score
        return best
