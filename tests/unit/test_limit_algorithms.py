"""The rate limit algorithms: other projects' vectors, their documented bounds, and clocks that go back."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.limits.decision import NEVER, Algorithm
from agent.core.limits.local_limit import AlgorithmName, LocalLimit, algorithm_of, share_of
from agent.core.limits.sliding_window import SlidingWindow

VECTORS = json.loads((Path(__file__).parent / "data" / "rate_limit_vectors.json").read_text())
NAMES: dict[str, AlgorithmName] = {
    "gcra": "gcra", "token": "token_bucket", "fixed": "fixed_window", "sliding": "sliding_window",
}  # fmt: skip
ALL: tuple[AlgorithmName, ...] = get_args(AlgorithmName)


def algorithm_of_table(table: dict[str, Any]) -> Algorithm:
    name = NAMES[table["algorithm"]]
    if "capacity" in table:
        rate = Fraction(table["rate_per_s"])
        return algorithm_of(name, rate.numerator, rate.denominator, table["capacity"])
    return algorithm_of(name, table["limit"], table["period"], table["limit"])


@pytest.mark.parametrize("start", [0.0, 1_234_567.891], ids=["at zero", "after two weeks of uptime"])
@pytest.mark.parametrize("table", VECTORS["tables"], ids=lambda table: table["name"])
def test_vectors(table: dict[str, Any], start: float) -> None:
    algorithm = algorithm_of_table(table)
    state = algorithm.fresh(start)
    for number, values in enumerate(table["rows"]):
        row = dict(zip(table["columns"], values, strict=True))
        allowed, remaining, reset_after_s, retry_after_s = algorithm.take(state, row["cost"], start + row["t"])
        said = {"limited": not allowed, "remaining": remaining}
        assert said == {key: row[key] for key in said}, f"row {number}: {row}"
        if "reset_after" in row:
            assert reset_after_s == pytest.approx(row["reset_after"], abs=1e-6), f"row {number}: {row}"
        if "retry_after" in row:
            assert retry_after_s == pytest.approx(row["retry_after"], abs=1e-6), f"row {number}: {row}"


def test_gcra_vectors_hold_for_the_token_bucket() -> None:
    for table in VECTORS["tables"]:
        if table["algorithm"] == "gcra":
            test_vectors(table | {"algorithm": "token"}, 0.0)


# costs and gaps as whole milliseconds, so that a failure shrinks to something readable
steps = st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 4)), min_size=1, max_size=80)
limits = st.integers(1, 7)
Admitted = list[tuple[float, int]]


def admit(algorithm: Algorithm, sequence: list[tuple[int, int]], start: float = 1000.0) -> Admitted:
    state = algorithm.fresh(start)
    now, admitted = start, []
    for gap_ms, cost in sequence:
        now += gap_ms / 1000
        allowed, remaining, reset_after_s, retry_after_s = algorithm.take(state, cost, now)
        assert 0 <= remaining <= algorithm.capacity
        assert reset_after_s >= 0
        assert retry_after_s == NEVER if allowed else retry_after_s == NEVER or retry_after_s > 0
        if allowed:
            admitted.append((now, cost))
    return admitted


def most_within(admitted: Admitted, length_s: float) -> int:
    """The most that any half-open interval of this length holds."""
    return max(
        (sum(cost for at, cost in admitted if end - length_s < at <= end) for end, _ in admitted),
        default=0,
    )


@pytest.mark.parametrize("name", ["token_bucket", "gcra"])
@given(sequence=steps, limit=limits, burst=limits)
def test_bucket_bound(name: AlgorithmName, sequence: list[tuple[int, int]], limit: int, burst: int) -> None:
    admitted = admit(algorithm_of(name, limit, 2.0, burst), sequence)
    for index, (start, _) in enumerate(admitted):
        total = 0
        for at, cost in admitted[index:]:
            total += cost
            assert total <= burst + (at - start) * limit / 2.0 + 1e-3


@given(sequence=steps, limit=limits)
def test_fixed_window_bound(sequence: list[tuple[int, int]], limit: int) -> None:
    admitted = admit(algorithm_of("fixed_window", limit, 2.0, limit), sequence)
    assert most_within(admitted, 2.0) <= 2 * limit


@given(sequence=steps, limit=limits)
def test_sliding_window_bounds(sequence: list[tuple[int, int]], limit: int) -> None:
    admitted = admit(algorithm_of("sliding_window", limit, 2.0, limit), sequence)
    assert most_within(admitted, 1.8 - 1e-6) <= limit
    assert most_within(admitted, 2.0) <= 2 * limit


@given(sequence=steps, limit=limits)
def test_sliding_window_forgets_after_its_span(sequence: list[tuple[int, int]], limit: int) -> None:
    algorithm = algorithm_of("sliding_window", limit, 2.0, limit)
    state, now = algorithm.fresh(0.0), 0.0
    for gap_ms, cost in sequence:
        now += gap_ms / 1000
        algorithm.take(state, cost, now)
    assert algorithm.take(state, limit, now + 2.2 + 1e-6)[:2] == (True, 0)


def test_steady_traffic_at_the_limit_is_never_refused() -> None:
    for name in ALL:
        algorithm = algorithm_of(name, 100, 60.0, 100)
        state = algorithm.fresh(0.0)
        refused = [i for i in range(1000) if not algorithm.take(state, 1, i * 0.6001)[0]]
        assert refused == [], name


def test_a_burst_is_not_held_against_a_client_for_two_windows() -> None:
    window = SlidingWindow(100, 60.0)
    state = window.fresh(0.0)
    assert window.take(state, 100, 0.0)[0]
    assert not window.take(state, 1, 59.9)[0]
    assert window.take(state, 50, 63.1)[0], "half of the leaving slot has faded"
    assert window.take(state, 50, 66.1)[0], "all of it"


@pytest.mark.parametrize("name", ALL)
@given(sequence=steps, limit=limits, cost=st.integers(1, 7), wait_ms=st.integers(0, 3_000))
def test_retry_after_is_true(
    name: AlgorithmName, sequence: list[tuple[int, int]], limit: int, cost: int, wait_ms: int
) -> None:
    algorithm = algorithm_of(name, limit, 2.0, limit)
    state, now = algorithm.fresh(0.0), 0.0
    for gap_ms, taken in sequence:
        now += gap_ms / 1000
        algorithm.take(state, taken, now)
    now += wait_ms / 1000
    allowed, remaining, reset_after_s, retry_after_s = algorithm.take(state.copy(), cost, now)
    if allowed:
        return
    assert remaining < cost
    if cost > limit:
        assert retry_after_s == NEVER
        return
    assert retry_after_s <= reset_after_s + 1e-6
    assert algorithm.take(state.copy(), cost, now + retry_after_s)[0]
    early = retry_after_s * 0.99 - 1e-3
    assert early <= 0 or not algorithm.take(state.copy(), cost, now + early)[0]


@pytest.mark.parametrize("name", ALL)
@given(sequence=steps, limit=limits)
def test_reset_after_is_true(name: AlgorithmName, sequence: list[tuple[int, int]], limit: int) -> None:
    algorithm = algorithm_of(name, limit, 2.0, limit)
    state, now, reset_after_s = algorithm.fresh(0.0), 0.0, 0.0
    for gap_ms, cost in sequence:
        now += gap_ms / 1000
        reset_after_s = algorithm.take(state, cost, now)[2]
    assert algorithm.take(state.copy(), limit, now + reset_after_s + 1e-9)[:2] == (True, 0)
    assert algorithm.debt(state, now + reset_after_s + 1e-6) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
@given(sequence=steps, limit=limits)
def test_refusals_and_questions_cost_nothing(name: AlgorithmName, sequence: list[tuple[int, int]], limit: int) -> None:
    algorithm = algorithm_of(name, limit, 2.0, limit)
    plain, noisy, now = algorithm.fresh(0.0), algorithm.fresh(0.0), 0.0
    for gap_ms, cost in sequence:
        now += gap_ms / 1000
        answer = algorithm.take(plain, cost, now)
        assert not algorithm.take(noisy, limit + 1, now)[0]
        algorithm.take(noisy, 0, now)
        assert algorithm.take(noisy, cost, now)[:2] == answer[:2]


@pytest.mark.parametrize("name", ALL)
@given(
    sequence=st.lists(st.tuples(st.integers(-5_000, 5_000), st.integers(0, 3)), min_size=1, max_size=60),
    limit=limits,
)
def test_time_that_goes_back_gives_nothing_twice(
    name: AlgorithmName, sequence: list[tuple[int, int]], limit: int
) -> None:
    algorithm = algorithm_of(name, limit, 2.0, limit)
    state = algorithm.fresh(100.0)
    now = latest = 100.0
    total = 0
    for gap_ms, cost in sequence:
        now += gap_ms / 1000
        latest = max(latest, now)
        allowed, remaining, *_ = algorithm.take(state, cost, now)
        assert 0 <= remaining <= limit
        total += cost * allowed
    # As if all had come in order: each bound over the whole time, whatever the order was.
    elapsed = latest - 100.0
    windows = int(elapsed / 2.0) + 1
    most = {"fixed_window": limit * windows, "sliding_window": limit * (elapsed / 1.8 + 1)}
    assert total <= most.get(name, limit + elapsed * limit / 2.0) + 1e-3


@pytest.mark.parametrize("name", ALL)
@given(sequence=steps, limit=limits)
def test_no_debt_is_as_good_as_fresh(name: AlgorithmName, sequence: list[tuple[int, int]], limit: int) -> None:
    algorithm = algorithm_of(name, limit, 2.0, limit)
    state, now = algorithm.fresh(0.0), 0.0
    for gap_ms, cost in sequence:
        now += gap_ms / 1000
        if algorithm.debt(state, now) <= 0.0:
            assert algorithm.take(state.copy(), limit, now)[:2] == (True, 0)
        algorithm.take(state, cost, now)


def test_peek_changes_nothing_and_counts_no_key() -> None:
    limit = LocalLimit(algorithm_of("sliding_window", 3, 60.0, 3), max_keys=10)
    assert limit.peek("a", 1, 0.0)[:2] == (True, 2)
    assert limit.count() == 0
    limit.take("a", 2, 0.0)
    before = limit.table.states["a"].copy()
    assert limit.peek("a", 2, 30.0)[0] is False
    assert limit.table.states["a"] == before


@pytest.mark.parametrize(
    ("amount", "share", "part"), [(100, 1.0, 100), (100, 1 / 3, 33), (49, 1 / 49, 1), (9, 1 / 3, 3), (7, 0.25, 1)]
)
def test_shares_never_add_up_to_more(amount: int, share: float, part: int) -> None:
    assert share_of(amount, share) == part


def test_nothing_to_share_is_said() -> None:
    with pytest.raises(ValueError, match="3 can't be shared by 4 workers"):
        share_of(3, 0.25)


def test_time_that_goes_back_does_not_count_the_leaving_slot_more_than_once() -> None:
    window = SlidingWindow(10, 60.0)
    state = window.fresh(0.0)
    window.take(state, 5, 0.0)
    window.take(state, 4, 60.0)
    assert window.take(state, 1, 30.0)[:3] == (True, 0, 66.0)
