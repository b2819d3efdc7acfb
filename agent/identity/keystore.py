"""The keys of one issuer and when they are fetched anew: good keys survive every failure, for a bounded time.

Rules: one fetch at a time, whoever wants it. A failure or an answer without a usable key never replaces good keys
(istio#58101). A token with an unknown key identifier causes at most one fetch in each minimum interval, and none for an
identifier that was just looked for.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from agent.core.clock import Clock, monotonic, wall
from agent.core.tasks import spawn
from agent.identity.jwk import KeySet
from agent.identity.settings import IssuerSettings
from agent.identity.sources import Source, SourceError
from agent.ports.keys import Key, KeySource
from agent.ports.policy import Fact
from agent.telemetry.metrics import Registry

MAX_ABSENT = 1024
FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0

_log = logging.getLogger(__name__)

Reason = Literal["no_keys", "unknown_kid"]


class Tools(NamedTuple):
    """What the rim gives: tests bring their own, so that they need no time."""

    clock: Clock = monotonic
    rng: random.Random = random.Random()  # noqa: S311  spreads calls over time, nothing secret
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    wall: Clock = wall


DEFAULT_TOOLS = Tools()


class FixedKeys(KeySource):
    """Keys that the configuration itself holds: always there, never another."""

    __slots__ = ("_ignores_kid", "_keys", "generation", "since")

    def __init__(self, keys: dict[tuple[str | None, str], Key], *, ignores_kid: bool = False) -> None:
        """`ignores_kid`: a shared secret has no identifier, so whatever name a token gives it means that one."""
        self._keys = keys
        self._ignores_kid = ignores_kid
        self.generation = 0
        self.since = wall()

    @property
    def available(self) -> bool:
        """Always."""
        return True

    @property
    def identifiers(self) -> frozenset[str | None]:
        """As in the port."""
        return frozenset(kid for kid, _ in self._keys)

    def lookup(self, kid: str | None, alg: str) -> Key | None:
        """As in the port."""
        return self._keys.get((None if self._ignores_kid else kid, alg))

    def need(self, kid: str | None) -> Fact | None:
        """Nothing would bring other keys."""
        return None


class FetchedKeys(KeySource):
    """Keys that a `Source` brings, refreshed in the background between `start` and `stop`."""

    __slots__ = (
        "_absent", "_clock", "_failures", "_fetches", "_flight", "_is_stale", "_keys", "_known",
        "_last_text", "_loaded_at", "_name", "_next_at", "_not_before", "_pause", "_refetches", "_rng", "_settings",
        "_source", "_task", "_wall", "generation", "since",
    )  # fmt: skip

    def __init__(self, name: str, settings: IssuerSettings, source: Source, registry: Registry, tools: Tools) -> None:
        self._name = name
        self._settings = settings
        self._source = source
        self._clock, self._rng, self._pause = tools.clock, tools.rng, tools.pause
        self._keys: KeySet | None = None
        self._known: frozenset[str | None] = frozenset()
        self._loaded_at = self._next_at = self._clock()
        self._is_stale = False
        self._not_before = float("-inf")
        self._absent: dict[str, None] = {}
        self._flight: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._last_text = ""
        self.generation = 0
        self._wall = tools.wall
        self.since = tools.wall()
        self._measure(registry)

    def _measure(self, registry: Registry) -> None:
        self._fetches = registry.counter(
            "outrigger_jwks_fetches_total", "Attempts to read an issuer's keys.", ("issuer", "result")
        )
        self._refetches = registry.counter(
            "outrigger_jwks_refetches_total", "Fetches of keys that a token caused.", ("issuer", "reason")
        )
        age = registry.gauge(
            "outrigger_jwks_age_seconds",
            "Seconds since an issuer's keys were last read with success, or since the start where they never were.",
            ("issuer",),
            combine="max",
        )
        age.watch(lambda: self._clock() - self._loaded_at, self._name)
        usable = registry.gauge("outrigger_jwks_keys", "Usable keys of an issuer.", ("issuer",), combine="max")
        usable.watch(lambda: self._keys.usable if self._keys is not None and self.available else 0, self._name)

    @property
    def available(self) -> bool:
        """Whether keys were read, and not longer ago than `stale_max_s`."""
        return self._keys is not None and self._clock() < self._loaded_at + self._settings.stale_max_s

    @property
    def identifiers(self) -> frozenset[str | None]:
        """As in the port."""
        return self._known

    @property
    def trouble(self) -> str:
        """What was wrong with the last attempt to read them, ``""`` where nothing was."""
        return self._last_text if self._failures else ""

    def lookup(self, kid: str | None, alg: str) -> Key | None:
        """As in the port."""
        return self._keys.keys.get((kid, alg)) if self._keys is not None and self.available else None

    def need(self, kid: str | None) -> Fact | None:
        """As in the port."""
        reason: Reason = "no_keys"
        if self.available:
            if kid is None or kid in self._absent or self._is_known(kid):
                return None
            reason = "unknown_kid"
        if self._flight is None and self._clock() < self._not_before:
            return None
        return _Refetch(self, reason, kid)

    def _is_known(self, kid: str) -> bool:
        """The identifier is there, only not for the token's algorithm: fetching again wouldn't change that."""
        return self._keys is not None and kid in self._known

    def start(self) -> None:
        """Fetch now and keep fetching in the background. Needs a running loop."""
        if self._task is None:
            self._task = spawn(self._run(), name=f"keys of issuer {self._name}")

    async def stop(self) -> None:
        """End the background work and any call that is under way."""
        tasks = [task for task in (self._task, self._flight) if task is not None]
        self._task = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def refresh(self) -> None:
        """Fetch now, or wait for the fetch that is under way."""
        await asyncio.wait({self._fly()})

    async def refetch(self, reason: Reason, kid: str | None) -> None:
        """Fetch because of a token, and remember an identifier that isn't there afterwards either."""
        if self._flight is None:
            if self._clock() < self._not_before:
                return
            self._refetches.at(self._name, reason)[0] += 1
        failures = self._failures
        await self.refresh()
        if kid is not None and self.available and self._failures <= failures and not self._is_known(kid):
            if len(self._absent) >= MAX_ABSENT:
                del self._absent[next(iter(self._absent))]
            self._absent[kid] = None

    def _fly(self) -> "asyncio.Task[None]":
        if self._flight is None:
            self._flight = spawn(self._load(), name=f"fetch of the keys of issuer {self._name}")
        return self._flight

    async def _run(self) -> None:
        while True:
            delay_s = self._next_look() - self._clock()
            if delay_s > 0:
                await self._pause(delay_s)
                self._expire()
            else:
                await self.refresh()

    def _next_look(self) -> float:
        """When there is something to do: the next fetch, or the end of what outlived its refreshes."""
        if self._keys is None or self._is_stale:
            return self._next_at
        return min(self._next_at, self._loaded_at + self._settings.stale_max_s)

    def _expire(self) -> None:
        if self._keys is not None and not self._is_stale and not self.available:
            self._is_stale = True
            self.since = self._wall()
            self.generation += 1
            _log.error(
                "issuer %s: its keys are older than stale_max_s, so no token of it is accepted until new ones come",
                self._name,
            )

    async def _load(self) -> None:
        try:
            keys = await self._source.load()
        except SourceError as error:
            self._failed(error.result, str(error))
        except Exception as error:  # noqa: BLE001  a defect here must not end the refreshing for good
            self._failed("defect", f"{type(error).__name__}: {error}")
        else:
            self._loaded(keys)
        finally:
            self._flight = None
            self._not_before = self._clock() + self._settings.refetch_min_interval_s

    def _loaded(self, keys: KeySet | None) -> None:
        now = self._clock()
        if not self.available:
            self.since = self._wall()
        self._fetches.at(self._name, "unchanged" if keys is None else "ok")[0] += 1
        if self._failures:
            _log.info("issuer %s: keys can be read again", self._name)
        self._failures, self._loaded_at, self._is_stale = 0, now, False
        self._absent.clear()
        period_s = min(self._settings.refresh_s, self._source.poll_s or self._settings.refresh_s)
        self._next_at = now + period_s * self._rng.uniform(0.8, 1.0)
        if keys is None:
            return
        if self._keys is not None and lost(self._keys, keys):
            self.generation += 1
        self._keys = keys
        self._known = frozenset(kid for kid, _ in keys.keys)
        self._tell("; ".join(keys.warnings))

    def _failed(self, result: str, text: str) -> None:
        self._fetches.at(self._name, result)[0] += 1
        self._failures += 1
        wait_s = min(MAX_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self._failures - 1, 10))
        self._next_at = self._clock() + wait_s * self._rng.uniform(0.5, 1.0)
        self._tell(text + ("; the last good keys stay in use" if self.available else "; there are no keys to use"))

    def _tell(self, text: str) -> None:
        """Once for each new state of affairs, not once for each attempt."""
        if text and text != self._last_text:
            _log.warning("issuer %s: %s", self._name, text)
        self._last_text = text


class _Refetch:
    """The fact that a token waits for: the keys after the next fetch."""

    __slots__ = ("_keys", "_kid", "_reason")

    def __init__(self, keys: FetchedKeys, reason: Reason, kid: str | None) -> None:
        self._keys = keys
        self._reason = reason
        self._kid = kid

    async def fetch(self) -> None:
        """As in the port: joins the fetch under way, or starts one where the interval allows it."""
        await self._keys.refetch(self._reason, self._kid)


def lost(old: KeySet, new: KeySet) -> bool:
    """Whether a key is gone or means something else. A key that only got company is still the same."""
    still_there = set(new.material.values())
    return any(
        proof not in still_there if kid is None else new.material.get((kid, alg)) != proof
        for (kid, alg), proof in old.material.items()
    )
