"""Metrics over generations of configurations, the process's own, and who writes a log line."""

import json
from typing import Any

from agent.ports.operator import Component
from agent.runtime.process_metrics import measure_process
from agent.runtime.settings import WorkerSettings
from agent.runtime.workers import Supervisor
from agent.telemetry.metrics import OVERFLOW, Registry
from agent.telemetry.process_log import ProcessLog


def series(registry: Registry, name: str) -> dict[tuple[str, ...], Any]:
    families = {family["name"]: family for family in registry.snapshot()["families"]}
    return {tuple(labels): value for labels, value in families[name]["series"]}


def test_what_is_gone_from_the_configuration_is_forgotten_and_what_stays_keeps_its_counts() -> None:
    registry = Registry()
    requests = registry.counter("requests_total", "R.", ("route", "result"))
    latency = registry.histogram("latency_seconds", "L.", ("upstream",))
    other = registry.counter("other_total", "O.", ("code",))
    for route in ("old", "kept", "upstream:x"):
        requests.at(route, "ok")[0] = 7
    latency.at("gone")
    other.at("old")[0] = 1
    before = registry.series
    registry.begin_generation()
    registry.end_generation({"route": {"kept", "upstream:x"}, "upstream": set()}, remade="route")
    assert series(registry, "requests_total") == {("kept", "ok"): 7, ("upstream:x", "ok"): 7}
    assert series(registry, "latency_seconds") == {}
    assert series(registry, "other_total") == {("old",): 1}
    assert registry.series == before - 2


def test_gauges_whose_owner_was_not_made_anew_are_forgotten() -> None:
    registry = Registry()
    slots = registry.gauge("slots", "S.", ("route",))
    states = registry.gauge("state", "S.", ("route",))
    pools = registry.gauge("pools", "P.", ("upstream",))
    slots.watch(lambda: 1, "a")
    slots.watch(lambda: 1, "b")
    cell = states.at("a")
    states.at("b")
    pools.watch(lambda: 3, "u")
    live = {"route": {"a", "b"}, "upstream": {"u"}}
    registry.begin_generation()
    slots.watch(lambda: 2, "a")
    assert states.at("a") is cell  # whoever has adopted the old state writes to the same cell
    registry.end_generation(live, remade="route")
    assert series(registry, "slots") == {("a",): 2}
    assert series(registry, "state") == {("a",): 0}
    assert series(registry, "pools") == {("u",): 3}


def test_the_overflow_series_stays() -> None:
    registry = Registry(max_series=1)
    requests = registry.counter("requests_total", "R.", ("route",))
    requests.at("one")
    requests.at("two")[0] += 5
    registry.begin_generation()
    registry.end_generation({"route": set()}, remade="route")
    assert series(registry, "requests_total") == {(OVERFLOW,): 5}
    assert registry.series == 0


def test_process_metrics_of_a_worker_and_of_the_process_that_was_started() -> None:
    alone, worker = Registry(), Registry()
    measure_process(alone)
    measure_process(worker, worker=3)
    for registry in (alone, worker):
        assert series(registry, "process_cpu_seconds_total")[()] > 0
        assert series(registry, "process_resident_memory_bytes")[()] > 5_000_000
        assert 3 <= series(registry, "process_open_fds")[()] < series(registry, "process_max_fds")[()]
    assert series(alone, "process_start_time_seconds")[()] > 1_600_000_000
    assert series(worker, "outrigger_worker_resident_memory_bytes")[("3",)] > 5_000_000
    assert series(worker, "outrigger_worker_cpu_seconds_total")[("3",)] > 0
    assert "process_start_time_seconds" not in {family["name"] for family in worker.snapshot()["families"]}


def test_constant_fields_stand_in_every_line() -> None:
    lines: list[bytes] = []
    log = ProcessLog(lines.append, service="shop", constant={"worker": 2}).logger("x")
    log.info("one")
    log.info("two", more=1)
    assert [json.loads(line)["worker"] for line in lines] == [2, 2]


def test_a_part_that_is_missing_in_one_worker_is_missing() -> None:
    settings = WorkerSettings()
    supervisor = Supervisor(3, lambda index, sock: 0, settings=settings, registry=Registry(), log=lambda *_, **__: None)
    good, bad = Component("issuer:a", ready=True), Component("issuer:a", ready=False, error="gone")
    only = Component("issuer:b", ready=True)
    for seat, parts in zip(supervisor.seats, ([good], [bad, only], [bad]), strict=True):
        seat.components, seat.is_ready = parts, True
    assert supervisor.worker_components() == [bad, only]
    supervisor.seats[1].is_ready = supervisor.seats[2].is_ready = False
    assert supervisor.worker_components() == [good]
