"""What the numbers have to be, each judged against peers of the same run."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import Failure, Footprint, Results


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target and whether it was met."""

    title: str
    value: float | None
    """None where something that it needs was not measured."""
    limit: float | None
    unit: str

    @property
    def met(self) -> bool | None:
        """None where it can't be told."""
        return None if self.value is None or self.limit is None else self.value <= self.limit

    def line(self) -> str:
        """For people."""
        if self.value is None or self.limit is None:
            return f"not measured  {self.title}"
        state = "met    " if self.met else "NOT MET"
        return f"{state}  {self.title}: {self.value:.2f}{self.unit} (at most {self.limit:.2f}{self.unit})"


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _footprint(results: Results, read: Callable[[Footprint], float]) -> float | None:
    found = results.footprint.get("outrigger")
    return None if found is None or isinstance(found, Failure) else read(found)


def verdicts(results: Results) -> list[Verdict]:
    """All targets, in the order of their weight."""
    full = _ratio(results.cpu_us("full", "outrigger"), results.cpu_us("full", "envoy"))
    bare = _ratio(results.cpu_us("bare", "outrigger"), results.cpu_us("bare", "haproxy"))
    judged = [
        Verdict("CPU per request, all policies, of Envoy's", full, 0.6, "x"),
        Verdict("CPU per request, bare, of HAProxy's", bare, 1.6, "x"),
    ]
    for what in ("p50", "p99"):
        own, envoy = (results.added_ms("full", peer, f"{what}_ms") for peer in ("outrigger", "envoy"))
        judged.append(Verdict(f"added latency {what}, all policies, against Envoy's", own, envoy, " ms"))
    judged.append(Verdict("memory idle (RSS)", _footprint(results, lambda f: f.rss_kib / 1024), 45.0, " MiB"))
    judged.append(Verdict("start to first answer", _footprint(results, lambda f: f.start_s), 1.0, " s"))
    return judged
