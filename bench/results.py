"""What was measured, as values: rounds are kept, medians are what is compared."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import procfs, stats


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no number."""

    why: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One peer in one round of one case."""

    cpu_us: float
    """CPU microseconds per request, user and system, all threads; 0.0 for the direct way."""
    rps: float
    busy: float
    """Share of its core that the proxy used. Far below 1, `rps` is the load generator's limit and not the proxy's."""
    rss_kib: int
    pss_kib: int
    requests: int
    errors: dict[str, int]

    def line(self) -> str:
        """For people who watch."""
        return f"{self.cpu_us:6.1f} µs  {self.rps:8.0f}/s  core {self.busy:4.0%}  {self.rss_kib / 1024:5.0f} MiB"


@dataclass(frozen=True, slots=True)
class LatencySample:
    """One peer in one round at a fixed rate, in milliseconds from the moment that each request was due."""

    p50_ms: float
    p99_ms: float
    p999_ms: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a peer takes before it does anything."""

    start_s: float
    """From the start of the process to the first forwarded 200, median."""
    rss_kib: int
    pss_kib: int

    @classmethod
    def of(cls, starts_s: Sequence[float], memory: procfs.Memory) -> "Footprint":
        """Made of the starts and the memory of the last one."""
        return cls(stats.median(starts_s), memory.rss_kib, memory.pss_kib)


@dataclass(slots=True)
class CaseResult:
    """All rounds of one case."""

    name: str
    title: str
    variant: str
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)

    def failed(self, peer: str) -> bool:
        """Whether this peer has no valid number here."""
        return peer in self.failures

    def median(self, peer: str, what: str) -> float | None:
        """Median over the rounds of one field of `Sample`; None where there is no valid number."""
        rounds = self.samples.get(peer)
        if not rounds or self.failed(peer):
            return None
        return stats.median([float(getattr(sample, what)) for sample in rounds])


@dataclass(slots=True)
class Results:
    """One whole run."""

    machine: dict[str, str]
    plan: dict[str, Any]
    date: str
    cases: list[CaseResult] = field(default_factory=list)
    alone: list[CaseResult] = field(default_factory=list)
    latency: dict[str, dict[str, list[LatencySample] | Failure]] = field(default_factory=dict)
    footprint: dict[str, Footprint | Failure] = field(default_factory=dict)

    def case(self, name: str) -> CaseResult | None:
        """The case of this name, if it was run."""
        return next((case for case in self.cases if case.name == name), None)

    def cpu_us(self, case: str, peer: str) -> float | None:
        """Median CPU per request, if there is one."""
        found = self.case(case)
        return found.median(peer, "cpu_us") if found else None

    def latency_ms(self, variant: str, peer: str, what: str) -> float | None:
        """Median over the rounds of a percentile (`p50_ms` …)."""
        rounds = self.latency.get(variant, {}).get(peer)
        if rounds is None or isinstance(rounds, Failure) or not rounds:
            return None
        return stats.median([float(getattr(sample, what)) for sample in rounds])

    def added_ms(self, variant: str, peer: str, what: str) -> float | None:
        """Latency over that of the direct way in the same run."""
        own, direct = self.latency_ms(variant, peer, what), self.latency_ms(variant, "direct", what)
        return None if own is None or direct is None else own - direct

    def plain(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self)
