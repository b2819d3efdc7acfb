"""Which of several endpoints gets the next request: in constant time, away from those that are ejected or were tried.

| name | picks | good for |
|---|---|---|
| `round_robin` | the next one | equal requests and targets |
| `least_requests` | of two at random, that with fewer requests in flight | requests of unequal cost |
| `p2c_ewma` | of two at random, that with less expected waiting (peak latency by requests) | targets of unequal speed |
| `sticky` | the same one for the same key (rendezvous hashing) | caches and sessions in the targets |

Where all that could be picked are ejected, all are used: a guess is better than a refusal.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import exp
from random import Random
from typing import Literal

from agent.core.address import Address
from agent.traffic.sticky import StickyKey, hash64, mix64
from agent.wire.head import RequestHead

Balance = Literal["round_robin", "least_requests", "p2c_ewma", "sticky"]

DECAY_S = 10.0
"""After this time without an answer a latency counts for a third (1/e), so that slow endpoints get another chance."""
FAILURE_S = 1.0
"""A failure counts as an answer that took so long, at least: who fails fast must not look fast."""
UNKNOWN_S = 1.0
"""Latency of an endpoint that never answered yet, once it has a request in flight: one probe, not a flood."""


class Endpoint:
    """One target as balancing sees it. `in_flight` is counted by the caller."""

    __slots__ = (
        "address", "consecutive_5xx", "consecutive_gateway_failures", "ejected_until", "ejections", "in_flight",
        "latency_s", "seed", "seen_at",
    )  # fmt: skip

    def __init__(self, address: Address) -> None:
        self.address = address
        self.in_flight = 0
        self.latency_s = 0.0
        """Peak-sensitive moving average of the seconds to an answer; 0.0 before the first."""
        self.seen_at = 0.0
        """When `latency_s` was last brought up to date, in monotonic seconds."""
        self.ejected_until = 0.0
        """Monotonic seconds; it gets no requests before."""
        self.ejections = 0
        """Ejections in a row: each is longer than the one before (see `agent.traffic.outlier`)."""
        self.consecutive_5xx = 0
        self.consecutive_gateway_failures = 0
        self.seed = hash64(str(address).encode())
        """What makes it differ from others for the same sticky key, in every process alike."""

    def observe(self, seconds: float, ok: bool, now: float) -> None:
        """Learn from an answer that took `seconds` (-1 if none came) and was good or bad."""
        sample = seconds if ok and seconds >= 0.0 else max(seconds, FAILURE_S)
        weight = exp((self.seen_at - now) / DECAY_S) if now > self.seen_at else 1.0
        if sample >= self.latency_s * weight:
            self.latency_s = sample
        else:
            self.latency_s = self.latency_s * weight + sample * (1.0 - weight)
        self.seen_at = now

    def cost(self, now: float) -> float:
        """Expected seconds until one more request is answered; an old latency fades towards zero."""
        if self.latency_s == 0.0:
            return self.in_flight * UNKNOWN_S
        return self.latency_s * exp((self.seen_at - now) / DECAY_S) * (self.in_flight + 1)


class Balancer(ABC):
    """Picks one of the endpoints, None where there are none.

    - An endpoint that is ejected, or in `exclude`, is picked only where no other is left.
    - One that is only excluded goes before one that is ejected.
    """

    __slots__ = ()

    @abstractmethod
    def __call__(
        self, endpoints: Sequence[Endpoint], head: RequestHead, now: float, exclude: Sequence[Endpoint]
    ) -> Endpoint | None:
        """`exclude` holds those that this request was tried on already."""


class RoundRobin(Balancer):
    """One after another."""

    __slots__ = ("_next",)

    def __init__(self, rand: Random) -> None:
        """`rand` picks where to begin, so that many sidecars don't begin with the same endpoint."""
        self._next = rand.randrange(1 << 16)

    def __call__(
        self, endpoints: Sequence[Endpoint], head: RequestHead, now: float, exclude: Sequence[Endpoint]
    ) -> Endpoint | None:
        """See `Balancer`."""
        if not endpoints:
            return None
        self._next += 1
        first = endpoints[self._next % len(endpoints)]
        if first.ejected_until <= now and first not in exclude:
            return first
        left = usable(endpoints, now, exclude)
        return left[self._next % len(left)]


class _BestOfTwo(Balancer):
    """Two at random, the better one: nearly as even as looking at all, and herds don't form (Mitzenmacher 2001)."""

    __slots__ = ("_random",)

    def __init__(self, rand: Random) -> None:
        self._random = rand.random

    def __call__(
        self, endpoints: Sequence[Endpoint], head: RequestHead, now: float, exclude: Sequence[Endpoint]
    ) -> Endpoint | None:
        """See `Balancer`."""
        count = len(endpoints)
        if count < 2:
            return endpoints[0] if count else None
        first, second = self._two(endpoints)
        if first.ejected_until > now or second.ejected_until > now or (exclude and {first, second} & {*exclude}):
            left = usable(endpoints, now, exclude)
            if len(left) == 1:
                return left[0]
            first, second = self._two(left)
        return second if self._is_better(second, first, now) else first

    def _two(self, endpoints: Sequence[Endpoint]) -> tuple[Endpoint, Endpoint]:
        count = len(endpoints)
        one = int(self._random() * count)
        other = int(self._random() * (count - 1))
        return endpoints[one], endpoints[other + 1 if other >= one else other]

    @abstractmethod
    def _is_better(self, one: Endpoint, other: Endpoint, now: float) -> bool: ...


class LeastRequests(_BestOfTwo):
    """Fewer requests in flight."""

    __slots__ = ()

    def _is_better(self, one: Endpoint, other: Endpoint, now: float) -> bool:
        return one.in_flight < other.in_flight


class PeakEwma(_BestOfTwo):
    """Less expected waiting, by peak-sensitive latency and requests in flight (as in Finagle and Linkerd)."""

    __slots__ = ()

    def _is_better(self, one: Endpoint, other: Endpoint, now: float) -> bool:
        return one.cost(now) < other.cost(now)


class Sticky(Balancer):
    """The same endpoint for the same key, in every process; when one goes, only its own keys move."""

    __slots__ = ("_key",)

    def __init__(self, key: StickyKey) -> None:
        self._key = key

    def __call__(
        self, endpoints: Sequence[Endpoint], head: RequestHead, now: float, exclude: Sequence[Endpoint]
    ) -> Endpoint | None:
        """See `Balancer`. Costs about 0.7 µs per endpoint: meant for tens of them."""
        if not endpoints:
            return None
        key = self._key(head)
        return max(usable(endpoints, now, exclude), key=lambda endpoint: mix64(key, endpoint.seed))


def usable(endpoints: Sequence[Endpoint], now: float, exclude: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """The endpoints to pick from, never empty unless `endpoints` is: see `Balancer` for the order of preference."""
    healthy = [endpoint for endpoint in endpoints if endpoint.ejected_until <= now]
    return (
        [endpoint for endpoint in healthy if endpoint not in exclude]
        or healthy
        or [endpoint for endpoint in endpoints if endpoint not in exclude]
        or endpoints
    )


def balancer(kind: Balance, rand: Random, key: StickyKey | None = None) -> Balancer:
    """The balancer of that name; `key` is needed for ``sticky`` only."""
    if kind == "sticky":
        if key is None:
            raise ValueError("sticky balancing needs a key")
        return Sticky(key)
    kinds: dict[str, type[RoundRobin | _BestOfTwo]] = {
        "round_robin": RoundRobin,
        "least_requests": LeastRequests,
        "p2c_ewma": PeakEwma,
    }
    return kinds[kind](rand)
