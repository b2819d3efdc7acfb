"""The registry: cells, limits, declarations, snapshots and their sum."""

import json
import random
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import pytest

from agent.telemetry.metrics import LATENCY_BOUNDS, OVERFLOW, Registry
from agent.telemetry.snapshot import FamilySnapshot, Snapshot, merge


def family(snapshot: Snapshot, name: str) -> FamilySnapshot:
    return next(one for one in snapshot["families"] if one["name"] == name)


def values(registry: Registry, name: str) -> dict[tuple[str, ...], Any]:
    return {tuple(labels): value for labels, value in family(registry.snapshot(), name)["series"]}


def test_a_cell_is_the_same_list_each_time_and_shows_in_the_snapshot() -> None:
    registry = Registry()
    cell = registry.counter("outrigger_things_total", "Things.", ("route",)).at("orders")
    cell[0] += 1
    registry.counter("outrigger_things_total", "Things.", ("route",)).at("orders")[0] += 2
    assert cell == [3]
    assert values(registry, "outrigger_things_total") == {("orders",): 3}


def test_histogram_counts_up_to_and_with_its_bounds() -> None:
    registry = Registry()
    cell = registry.histogram("wait_seconds", "Wait.", bounds=(0.1, 1.0)).at()
    for value in (0.05, 0.1, 0.5, 7.0):
        cell[bisect_left((0.1, 1.0), value)] += 1
        cell[-1] += value
    assert cell == [2, 1, 1, pytest.approx(7.65)]


def test_latency_bounds_rise_and_look_below_a_millisecond() -> None:
    assert list(LATENCY_BOUNDS) == sorted(set(LATENCY_BOUNDS))
    assert (LATENCY_BOUNDS[0], LATENCY_BOUNDS[-1], len(LATENCY_BOUNDS)) == (0.0001, 60.0, 18)
    assert sum(bound < 0.001 for bound in LATENCY_BOUNDS) == 3


def test_series_beyond_the_limit_share_one_and_are_counted() -> None:
    registry = Registry(max_series=3)
    paths = registry.counter("paths_total", "Paths.", ("path", "method"))
    for number in range(10):
        paths.at(f"/{number}", "GET")[0] += 1
    assert values(registry, "paths_total") == {
        ("/0", "GET"): 1,
        ("/1", "GET"): 1,
        ("/2", "GET"): 1,
        (OVERFLOW, OVERFLOW): 7,
    }
    assert values(registry, "outrigger_metrics_series_overflow_total") == {("paths_total",): 7}
    assert values(registry, "outrigger_metrics_series") == {(): 3}


def test_the_limit_spans_families_but_spares_those_without_labels() -> None:
    registry = Registry(max_series=1)
    registry.counter("first_total", "1", ("a",)).at("x")
    assert registry.gauge("second", "2", ("a",)).at("x") is registry.gauge("second", "2", ("a",)).at("y")
    registry.counter("plain_total", "No labels.").at()[0] += 5
    assert values(registry, "plain_total") == {(): 5}
    assert set(values(registry, "second")) == {(OVERFLOW,)}


def test_a_known_series_is_found_at_the_limit() -> None:
    registry = Registry(max_series=1)
    counter = registry.counter("a_total", "A.", ("a",))
    cell = counter.at("x")
    counter.at("y")
    assert counter.at("x") is cell


def test_a_forgotten_series_makes_room() -> None:
    registry = Registry(max_series=1)
    targets = registry.gauge("targets", "Targets.", ("target",))
    targets.watch(lambda: 1, "a")
    targets.forget("a")
    targets.forget("never known")
    targets.at("b")[0] = 2
    assert values(registry, "targets") == {("b",): 2}
    assert registry.series == 1
    targets.forget("b")
    targets.at("a")[0] = 5
    assert values(registry, "targets") == {("a",): 5}, "the old callback is gone too"


def test_forgetting_the_overflow_series_gives_no_extra_room() -> None:
    registry = Registry(max_series=1)
    counter = registry.counter("a_total", "A.", ("a",))
    counter.at("x")
    counter.at("y")
    counter.forget(OVERFLOW)
    assert registry.series == 1


def test_a_value_without_utf8_form_is_kept_readable() -> None:
    registry = Registry()
    counter = registry.counter("a_total", "A.", ("a",))
    assert counter.at("bad\udcff") is counter.at("bad\udcff")
    assert values(registry, "a_total") == {("bad\\udcff",): 0}
    assert registry.series == 1


@pytest.mark.parametrize("label_values", [(), ("a",), ("a", "b", "c")])
def test_wrong_number_of_label_values_names_the_metric(label_values: tuple[str, ...]) -> None:
    counter = Registry().counter("orders_total", "Orders.", ("route", "method"))
    with pytest.raises(ValueError, match="orders_total"):
        counter.at(*label_values)


Declare = Callable[[Registry], object]


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (lambda r: r.counter("a_total", ""), lambda r: r.counter("a_total", "", ("x",)), "a_total.*labels was"),
        (lambda r: r.gauge("a_total", ""), lambda r: r.counter("a_total", ""), "a_total.*kind was 'gauge'"),
        (lambda r: r.histogram("a", "", (), (1.0,)), lambda r: r.histogram("a", "", (), (2.0,)), "a is.*bounds"),
        (lambda r: r.gauge("a", ""), lambda r: r.gauge("a", "", combine="max"), "combine was 'sum'"),
        (lambda r: r.gauge("jobs", ""), lambda r: r.counter("jobs_total", ""), "jobs_total.*jobs is exposed"),
        (lambda r: r.counter("x_count_total", ""), lambda r: r.histogram("x", ""), "exposed as x_count"),
    ],
)
def test_contradicting_declarations_name_the_metric(first: Declare, second: Declare, says: str) -> None:
    registry = Registry()
    first(registry)
    with pytest.raises(ValueError, match=says):
        second(registry)


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda r: r.counter("requests", ""), "requests: the name of a counter"),
        (lambda r: r.gauge("Requests", ""), "'Requests'"),
        (lambda r: r.gauge("a b", ""), "'a b'"),
        (lambda r: r.gauge("a", "", ("__reserved",)), "'__reserved'"),
        (lambda r: r.gauge("a", "", ("b-c",)), "'b-c'"),
        (lambda r: r.gauge("a", "", ("b", "b")), "named twice"),
        (lambda r: r.histogram("a", "", ("le",)), "the label le"),
        (lambda r: r.histogram("a", "", (), ()), "bounds"),
        (lambda r: r.histogram("a", "", (), (2.0, 1.0)), "bounds"),
        (lambda r: r.histogram("a", "", (), (1.0, 1.0)), "bounds"),
        (lambda r: r.histogram("a", "", (), (1.0, float("inf"))), "bounds"),
    ],
)
def test_bad_declarations_are_refused(declare: Declare, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        declare(Registry())


def test_a_watched_gauge_is_read_at_each_snapshot_and_replaced() -> None:
    registry = Registry()
    readings = iter([1, 2])
    gauge = registry.gauge("depth", "Depth.", ("queue",))
    gauge.watch(lambda: next(readings), "jobs")
    assert values(registry, "depth") == {("jobs",): 1}
    assert values(registry, "depth") == {("jobs",): 2}
    gauge.watch(lambda: 7, "jobs")
    assert values(registry, "depth") == {("jobs",): 7}


def test_a_reading_that_fails_costs_only_itself() -> None:
    registry = Registry()
    registry.gauge("broken", "Broken.").watch(lambda: 1 // 0)
    registry.gauge("sound", "Sound.").watch(lambda: 1)
    assert values(registry, "broken") == {}
    assert values(registry, "sound") == {(): 1}
    assert values(registry, "outrigger_metrics_watch_errors_total")[("broken",)] >= 1


def worker(seed: int) -> Registry:
    random_source = random.Random(seed)
    registry = Registry()
    registry.info = {"service_name": "orders"}
    for route in ("a", "b"):
        registry.counter("done_total", "Done.", ("route",)).at(route)[0] += random_source.randrange(100)
    registry.counter("done_total", "Done.", ("route",)).at(f"only-{seed}")[0] += seed
    registry.gauge("open", "Open.").at()[0] = seed
    registry.gauge("age_seconds", "Age.", combine="max").at()[0] = seed
    cell = registry.histogram("wait_seconds", "Wait.").at()
    cell[seed] += 1
    cell[-1] += LATENCY_BOUNDS[seed]
    return registry


def test_merge_adds_over_workers_through_json() -> None:
    snapshots = [worker(seed).snapshot() for seed in (1, 2, 3)]
    merged = merge(json.loads(json.dumps(one)) for one in snapshots)

    def series(snapshot: Snapshot, name: str) -> dict[tuple[str, ...], Any]:
        return {tuple(labels): value for labels, value in family(snapshot, name)["series"]}

    done = [series(one, "done_total") for one in snapshots]
    assert series(merged, "done_total")["a",] == sum(one["a",] for one in done)
    assert series(merged, "done_total")["only-2",] == 2
    assert series(merged, "open") == {(): 6}
    assert series(merged, "age_seconds") == {(): 3}
    wait = series(merged, "wait_seconds")[()]
    assert wait[:5] == [0, 1, 1, 1, 0]
    assert wait[-1] == pytest.approx(sum(LATENCY_BOUNDS[seed] for seed in (1, 2, 3)))
    assert merged["info"] == {"service_name": "orders"}


def test_merge_leaves_its_input_alone() -> None:
    snapshot = worker(1).snapshot()
    before = json.dumps(snapshot)
    merge([snapshot, worker(2).snapshot()])
    assert json.dumps(snapshot) == before


def test_merge_of_nothing_is_empty() -> None:
    assert merge([]) == {"info": {}, "families": []}


@pytest.mark.parametrize(
    ("left", "right", "total"),
    [(float("inf"), 1.0, "Infinity"), (float("nan"), 1.0, "NaN"), (float("inf"), float("-inf"), "NaN"), (True, 1, 2)],
)
def test_numbers_that_json_does_not_know_survive_a_merge(left: float, right: float, total: object) -> None:
    snapshots = []
    for value in (left, right):
        registry = Registry()
        registry.gauge("limit", "Limit.").at()[0] = value
        snapshots.append(json.loads(json.dumps(registry.snapshot(), allow_nan=False)))
    assert family(merge(snapshots), "limit")["series"] == [([], total)]


def test_merge_refuses_workers_that_disagree() -> None:
    one, other = Registry(), Registry()
    one.counter("a_total", "A.").at()
    other.counter("a_total", "A.", ("x",)).at("y")
    with pytest.raises(ValueError, match="a_total"):
        merge([one.snapshot(), other.snapshot()])
