"""The bounded table: memory and time under floods, and who is forgotten first."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.bounded_table import BoundedTable
from agent.core.limits.local_limit import LocalLimit, algorithm_of

Entry = tuple[float, float]  # debt, expiry


def debt(entry: Entry, now: float) -> float:
    amount, expires = entry
    return amount if now < expires else 0.0


def table(max_keys: int) -> BoundedTable[Entry]:
    return BoundedTable(max_keys, debt)


def test_expired_go_before_living_and_are_no_evictions() -> None:
    small = table(3)
    for key, expires in (("a", 10.0), ("b", 2.0), ("c", 10.0)):
        small.insert(key, (5.0, expires), 0.0)
    small.insert("d", (5.0, 10.0), 3.0)
    assert set(small.states) == {"a", "c", "d"}
    assert small.evictions == [0]


def test_least_debt_goes_first_and_the_older_of_equals() -> None:
    small = table(3)
    for key, amount in (("a", 5.0), ("b", 1.0), ("c", 1.0)):
        small.insert(key, (amount, 99.0), 0.0)
    small.insert("d", (5.0, 99.0), 0.0)
    assert set(small.states) == {"a", "c", "d"}
    assert small.evictions == [1]


def test_shrinks_to_the_keys_in_use() -> None:
    big = table(10_000)
    for number in range(1000):
        big.insert(number, (1.0, 10.0), 0.0)
    for number in range(2000, 3000):
        big.insert(number, (1.0, 99.0), 20.0)
    assert len(big) == 1000
    assert big.evictions == [0]


def test_replacing_a_key_forgets_nobody() -> None:
    small = table(2)
    small.insert("a", (1.0, 9.0), 0.0)
    small.insert("b", (1.0, 9.0), 0.0)
    small.insert("a", (3.0, 9.0), 0.0)
    assert small.states == {"a": (3.0, 9.0), "b": (1.0, 9.0)}


def test_a_smaller_bound_forgets_at_once() -> None:
    some = table(100)
    for number in range(100):
        some.insert(number, (float(number), 1e9), 0.0)
    some.resize(10)
    assert len(some) == 10
    some.insert("new", (1.0, 9.0), 0.0)
    assert len(some) == 10


@given(
    max_keys=st.integers(1, 6),
    inserts=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), st.integers(0, 5)), max_size=80),
)
def test_never_above_its_bound_and_always_holds_the_last(max_keys: int, inserts: list[tuple[int, int, int]]) -> None:
    small, now = table(max_keys), 0.0
    for key, amount, gap in inserts:
        now += gap
        small.insert(key, (float(amount), now + 4), now)
        assert len(small) <= max_keys
        assert key in small.states
        assert sorted(map(str, small._ring)) == sorted(map(str, small.states)), "both structures hold the same keys"


@pytest.mark.parametrize("algorithm", ["token_bucket", "gcra", "fixed_window", "sliding_window"])
def test_a_flood_of_fresh_keys_cannot_wash_out_a_key_at_its_limit(algorithm: str) -> None:
    limit = LocalLimit(algorithm_of(algorithm, 100, 60.0, 100), max_keys=1000)  # type: ignore[arg-type]
    assert limit.take("noisy", 100, 0.0)[0]
    for number in range(20_000):
        limit.take(f"flood-{number}", 1, 0.001)
    assert limit.count() == 1000
    assert limit.take("noisy", 1, 0.002)[0] is False
    assert limit.table.evictions[0] > 18_000


def test_a_take_costs_the_same_in_a_full_table() -> None:
    """Counted in steps, not seconds: how many states are looked at per insertion."""
    looked = 0

    def counting(entry: Entry, now: float) -> float:
        nonlocal looked
        looked += 1
        return debt(entry, now)

    big: BoundedTable[Entry] = BoundedTable(5000, counting)
    for number in range(20_000):
        big.insert(number, (1.0, 1e9), 0.0)
    assert looked <= 20_000 * 8
    started = time.process_time()
    for number in range(20_000, 40_000):
        big.insert(number, (1.0, 1e9), 0.0)
    assert time.process_time() - started < 10, "20,000 insertions take some 50 ms; quadratic time would take minutes"
