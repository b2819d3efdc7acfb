"""Runs the cases: every round visits every peer once, so that the machine's noise hits all alike."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import latency, peers, process, procfs, wrk
from bench.cases import Case
from bench.results import CaseResult, Failure, Footprint, LatencySample, Sample

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    rounds: int = 3
    warm_s: float = 2.0
    rewarm_s: float = 1.0
    """Warm-up of the second and later rounds, where the proxy has already run."""
    measured_s: float = 5.0
    idle_s: float = 5.0
    rate: int = 1000
    peers: frozenset[str] = frozenset(peers.PEERS)


class Runner:
    """Measures one thing after the other; what fails is recorded and the rest goes on."""

    def __init__(self, setting: peers.Setting, plan: Plan, load_core: int, say: Say = print) -> None:
        self.setting = setting
        self.plan = plan
        self.pin = process.pin(load_core)
        self.say = say

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Those of the case's peers that this run is about."""
        return [name for name in names if name in self.plan.peers]

    @contextmanager
    def running(self, name: str, variant: str) -> Iterator[tuple[peers.Peer, float]]:
        """A peer that answers, and the seconds that it took. Raises StartError."""
        peer = peers.PEERS[name](self.setting, variant)
        try:
            peer.start()
            took_s = peer.ready()
            if not self.setting.config:
                peer.check_policies()
            yield peer, took_s
        finally:
            peer.stop()

    def case(self, case: Case) -> CaseResult:
        """Measure one case in all rounds."""
        return self.together([case])[0]

    def together(self, cases: Sequence[Case]) -> list[CaseResult]:
        """Measure several cases, interleaved: every round visits every peer of every case once."""
        results = [CaseResult(case.name, case.title, case.variant) for case in cases]
        live: dict[tuple[str, str], peers.Peer] = {}
        with ExitStack() as stack:
            for case, result in zip(cases, results, strict=True):
                for name in self.chosen(case.peers):
                    result.samples[name] = []
                    if not case.fresh_tokens:
                        self._start(stack, result, name, live)
            for number in range(self.plan.rounds):
                for case, result in zip(cases, results, strict=True):
                    for name in result.samples:
                        if not result.failed(name):
                            self._sample(case, result, name, live.get((case.name, name)), number)
        return results

    def _start(self, stack: ExitStack, result: CaseResult, name: str, live: dict[tuple[str, str], peers.Peer]) -> None:
        try:
            live[result.name, name] = stack.enter_context(self.running(name, result.variant))[0]
        except process.StartError as error:
            self._failed(result.failures, name, str(error))

    def _sample(self, case: Case, result: CaseResult, name: str, peer: peers.Peer | None, number: int) -> None:
        warm_s = self.plan.rewarm_s if number and peer else self.plan.warm_s
        try:
            if peer:
                sample = self._measure(case, peer, warm_s)
            else:
                with self.running(name, case.variant) as (started, _):
                    sample = self._measure(case, started, warm_s)
        except (process.StartError, wrk.LoadError) as error:
            self._failed(result.failures, name, str(error))
            return
        result.samples[name].append(sample)
        self.say(f"  {case.name:<18} round {number + 1}  {name:<10} {sample.line()}")
        if sample.errors:
            self._failed(result.failures, name, f"invalid, not every answer was a success: {sample.errors}")

    def _measure(self, case: Case, peer: peers.Peer, warm_s: float) -> Sample:
        url = f"http://127.0.0.1:{peer.port}{case.path}"
        headers = self.setting.headers
        load = wrk.Load(url, warm_s, case.connections, case.method, case.body_bytes, headers)
        wrk.run(load, self.pin)
        fresh = self.setting.credentials.fresh if case.fresh_tokens else None
        if fresh:
            headers = {field: value for field, value in headers.items() if field != "Authorization"}
        load = wrk.Load(url, self.plan.measured_s, case.connections, case.method, case.body_bytes, headers, fresh)
        pids = peer.pids()
        before, started = procfs.cpu_s(pids), time.perf_counter()
        report = wrk.run(load, self.pin)
        used, wall = procfs.cpu_s(pids) - before, time.perf_counter() - started
        memory = procfs.memory(pids)
        return Sample(
            cpu_us=used * 1e6 / report.requests if report.requests and pids else 0.0,
            rps=report.rps,
            busy=used / wall,
            rss_kib=memory.rss_kib,
            pss_kib=memory.pss_kib,
            requests=report.requests,
            errors=dict(report.errors),
        )

    def latency(self, variant: str, names: Sequence[str]) -> dict[str, list[LatencySample] | Failure]:
        """Latency at the plan's fixed rate, all rounds."""
        found: dict[str, list[LatencySample] | Failure] = {}
        with ExitStack() as stack:
            live: dict[str, peers.Peer] = {}
            for name in self.chosen(names):
                # The direct way has no variants, and belongs to every one.
                try:
                    live[name] = stack.enter_context(self.running(name, variant))[0]
                    found[name] = []
                except process.StartError as error:
                    found[name] = Failure(str(error))
                    self.say(f"  {name}: {error}")
            for number in range(self.plan.rounds):
                for name, peer in live.items():
                    before = found[name]
                    if isinstance(before, Failure):
                        continue
                    try:
                        sample = self._latency(peer)
                    except wrk.LoadError as error:
                        found[name] = Failure(str(error))
                        self.say(f"  {name}: {error}")
                        continue
                    before.append(sample)
                    shown = f"p50 {sample.p50_ms:.3f} ms  p99 {sample.p99_ms:.3f} ms"
                    self.say(f"  latency {variant:<10} round {number + 1}  {name:<10} {shown}")
        return found

    def _latency(self, peer: peers.Peer) -> LatencySample:
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.setting.headers.items())
        request = f"GET /orders/42 HTTP/1.1\r\n{lines}\r\n"
        plan = latency.Plan(peer.port, request, self.plan.rate, self.plan.rewarm_s, self.plan.measured_s)
        seen = latency.measure(plan, self.pin)
        if seen.failed:
            raise wrk.LoadError(f"invalid: {seen.failed} of the answers were not 200")
        return LatencySample(seen.p50_ms, seen.p99_ms, seen.p999_ms)

    def footprint(self, names: Sequence[str]) -> dict[str, Footprint | Failure]:
        """Start each peer several times in turn; the last time, look at its memory after some idle seconds."""
        starts: dict[str, list[float]] = {name: [] for name in self.chosen(names)}
        found: dict[str, Footprint | Failure] = {}
        for number in range(self.plan.rounds):
            with ExitStack() as stack:
                live: dict[str, peers.Peer] = {}
                for name, starts_s in starts.items():
                    if name in found:
                        continue
                    try:
                        live[name], took_s = stack.enter_context(self.running(name, "full"))
                        starts_s.append(took_s)
                    except process.StartError as error:
                        self._failed(found, name, str(error))
                if number == self.plan.rounds - 1:
                    time.sleep(self.plan.idle_s)
                    for name, peer in live.items():
                        found[name] = Footprint.of(starts[name], procfs.memory(peer.pids()))
        return found

    def _failed(self, failures: dict[str, Failure] | dict[str, Footprint | Failure], name: str, why: str) -> None:
        failures[name] = Failure(why)
        self.say(f"  {name}: {why}")
