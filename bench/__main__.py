"""`python -m bench`: measure Outrigger and its peers side by side, in one run."""

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import chart, install, interpreter, machine, peers, process, profile, report, tokens
from bench.backend import Backend
from bench.cases import ALONE, CASES, FOOTPRINT, LATENCY, SECTIONS
from bench.results import Results
from bench.runner import Plan, Runner

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "bench" / "results" / "latest.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "benchmarks.svg"
QUICK = ("bare", "full")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of two seconds, bare and full only")
    parser.add_argument("--only", metavar="CASE", action="append", choices=SECTIONS, help=f"{', '.join(SECTIONS)}")
    parser.add_argument("--peers", metavar="A,B", help=f"of {', '.join(peers.PEERS)}")
    parser.add_argument("--rounds", type=int, help="how often each peer is measured (3)")
    parser.add_argument("--seconds", type=float, help="how long each measurement lasts (5)")
    parser.add_argument("--config", type=Path, help="a configuration for Outrigger instead of the bench's own")
    parser.add_argument("--profile", metavar="VARIANT", help="keep Outrigger under load and say how to profile it")
    parser.add_argument("--write", action="store_true", help="publish: docs/benchmarks.md, its picture, bench/results")
    chosen = parser.parse_args(words)
    unknown = set((chosen.peers or "").split(",")) - {"", *peers.PEERS}
    if unknown:
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}; known are {', '.join(peers.PEERS)}")
    return chosen


def plan_of(chosen: argparse.Namespace) -> Plan:
    """How long, how often and with whom."""
    plan = Plan()
    if chosen.quick:
        quick_peers = frozenset({"outrigger", "envoy", "haproxy"})
        plan = replace(plan, rounds=1, warm_s=1.0, measured_s=2.0, idle_s=1.0, peers=quick_peers)
    if chosen.rounds:
        plan = replace(plan, rounds=chosen.rounds)
    if chosen.seconds:
        plan = replace(plan, measured_s=chosen.seconds)
    if chosen.peers:
        plan = replace(plan, peers=frozenset(chosen.peers.split(",")))
    return plan


def sections_of(chosen: argparse.Namespace) -> tuple[str, ...]:
    """Which parts to run."""
    return tuple(chosen.only or (QUICK if chosen.quick else SECTIONS))


def cores() -> tuple[int, int, int]:
    """Cores for the proxy, the backend and the load; the latter two share one where there are only two."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise install.InstallError("the bench needs two cores: one for the proxy alone, one for everything else")
    return usable[0], usable[1], usable[2] if len(usable) > 2 else usable[1]


def measure(runner: Runner, sections: tuple[str, ...], results: Results) -> None:
    """Run the sections one after the other."""
    for case in CASES:
        if case.name in sections and runner.chosen(case.peers):
            print(f"{case.title}:", flush=True)
            results.cases.append(runner.case(case))
    if "alone" in sections and runner.chosen(["outrigger"]):
        print("Each policy alone:", flush=True)
        results.alone.extend(runner.together(ALONE))
    if "latency" in sections:
        for variant, names in LATENCY:
            print(f"Latency at {runner.plan.rate} requests/s, {variant}:", flush=True)
            results.latency[variant] = runner.latency(variant, names)
    if "footprint" in sections:
        print("Memory and start:", flush=True)
        results.footprint.update(runner.footprint(FOOTPRINT))


def keep(results: Results, cache: Path, *, write: bool) -> Path:
    """Write the results as JSON, into the repository together with the page and its picture only where asked."""
    target = PUBLISHED if write else cache / "latest.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results.plain(), indent=1, ensure_ascii=False) + "\n")
    if write:
        PAGE.write_text(report.replace_region(PAGE.read_text(), report.markdown(results)))
        PICTURE.write_text(chart.svg(chart.groups(results)))
    return target


def plain_plan(plan: Plan) -> dict[str, Any]:
    """The plan as JSON's types."""
    return {**asdict(plan), "peers": sorted(plan.peers)}


def run(chosen: argparse.Namespace) -> int:
    """Install, start the backend, measure, report."""
    proxy_core, backend_core, load_core = cores()
    cache = install.cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    plan = plan_of(chosen)
    install.debian_packages()
    if "envoy" in plan.peers:
        install.envoy(cache)
    python = interpreter.prepare(cache)
    credentials = tokens.prepare(cache)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outrigger-bench-")))
        backend = Backend(folder, backend_core)
        stack.callback(backend.stop)
        backend.ready()
        setting = peers.Setting(folder, cache, backend.port, credentials, proxy_core, chosen.config, python)
        runner = Runner(setting, plan, load_core)
        if chosen.profile:
            return profile.hold(runner, chosen.profile)
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        results = Results(machine.describe(cache, python), plain_plan(plan), date)
        measure(runner, sections_of(chosen), results)
    print(f"\n{report.text(results)}")
    print(f"\nall rounds: {keep(results, cache, write=chosen.write)}")
    return 0


def main() -> int:
    """Run, and leave nothing behind however it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(arguments())
    except KeyboardInterrupt:
        print("\nstopped; all started processes are ended")
        return 130
    except (install.InstallError, process.StartError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
