"""A named upstream, or the application: its targets, the pool of each, and how one is picked."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

from agent.core.address import Address
from agent.proxy.pool import Pool
from agent.telemetry.metrics import LATENCY_BOUNDS, Registry
from agent.traffic.balance import Balancer, Endpoint
from agent.traffic.outlier import OutlierDetection
from agent.wire.head import RequestHead

Origin = Literal["app", "upstream"]


class Target(Endpoint):
    """One address of a cluster, with its connections and how it has been doing."""

    __slots__ = ("cluster", "name", "origin", "pool")

    def __init__(self, address: Address, pool: Pool, cluster: "Cluster") -> None:
        super().__init__(address)
        self.pool = pool
        self.cluster = cluster
        self.origin: Origin = cluster.origin
        """Who answers, as `X-Outrigger-Origin` says it."""
        self.name = str(address)

    @property
    def has_siblings(self) -> bool:
        """Whether another try could go elsewhere."""
        return len(self.cluster.targets) > 1

    def begin(self) -> None:
        """A try is on its way to this target."""
        self.in_flight += 1

    def end(self, ok: bool | None, seconds: float, now: float, gateway: bool = False) -> None:
        """The try is over. `ok` is None where it says nothing (the client left); `seconds` is -1 without an answer."""
        self.in_flight -= 1
        cluster = self.cluster
        if seconds >= 0:
            cell = cluster.duration
            cell[bisect_left(LATENCY_BOUNDS, seconds)] += 1
            cell[-1] += seconds
        if ok is not None and cluster.learns:
            self.observe(seconds, ok, now)
            if cluster.outlier is not None and cluster.outlier.record(self, ok, now, gateway=gateway):
                cluster.ejections[0] += 1


class Cluster:
    """All targets of one name."""

    __slots__ = (
        "_balancer", "_gauges", "duration", "ejections", "learns", "name", "only", "origin", "outlier", "targets",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        origin: Origin,
        registry: Registry,
        *,
        balancer: Balancer | None = None,
        outlier: OutlierDetection | None = None,
    ) -> None:
        """Make it empty; `use` brings the targets. More than one target needs a `balancer`."""
        self.name = name
        self.origin: Origin = origin
        self._balancer = balancer
        self.outlier = outlier
        self.targets: tuple[Target, ...] = ()
        self.only: Target | None = None
        self.learns = False
        """Whether how a try went changes what is picked next."""
        labels = ("upstream",)
        self.duration = registry.histogram(
            "outrigger_upstream_duration_seconds", "From sending a request to the head of its answer.", labels
        ).at(name)
        self.ejections = registry.counter(
            "outrigger_upstream_ejections_total", "Targets left out for failing too often.", labels
        ).at(name)
        gauges: tuple[tuple[str, str, Callable[[Pool], int]], ...] = (
            ("outrigger_upstream_connections", "Connections that are open.", lambda pool: pool.open),
            ("outrigger_upstream_idle_connections", "Connections that wait for a request.", lambda pool: pool.idle),
            ("outrigger_upstream_pending_requests", "Requests that wait for a connection.", lambda pool: pool.pending),
            ("outrigger_upstream_held_requests", "Requests that wait for a target to come back.", _held),
        )
        self._gauges = [(registry.gauge(metric, meaning, labels), read) for metric, meaning, read in gauges]

    def _total(self, read: Callable[[Pool], int]) -> float:
        return sum(read(target.pool) for target in self.targets)

    def use(self, targets: Sequence[Target]) -> None:
        """Take these targets from now on; exchanges that have begun go on with theirs."""
        self.targets = tuple(targets)
        self.only = self.targets[0] if len(self.targets) == 1 else None
        self.learns = len(self.targets) > 1
        if self.outlier is not None:
            self.outlier.use(self.targets)

    def pick(self, head: RequestHead, now: float, tried: "Sequence[Target] | None") -> Target | None:
        """The target for a try, another one than those that were `tried` where there is one."""
        if self.only is not None:
            return self.only
        if self._balancer is None:
            return None
        return cast("Target | None", self._balancer(self.targets, head, now, tried or ()))

    def announce(self) -> None:
        """It is in force: from now on the gauges of its name are read here."""
        for gauge, read in self._gauges:
            gauge.watch(partial(self._total, read), self.name)

    def forget(self) -> None:
        """Take its gauges out of the metrics: there is no upstream of this name any more."""
        for gauge, _ in self._gauges:
            gauge.forget(self.name)

    def close(self) -> None:
        """Close idle connections; those in use close when their exchange is over."""
        for target in self.targets:
            target.pool.close()


def _held(pool: Pool) -> int:
    return pool.hold.held if pool.hold is not None else 0
