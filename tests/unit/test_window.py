"""The sliding window: what is recent, and that a ring of ten agrees with a list of everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.window import BUCKETS, Window


def count(window: Window, now: float, counter: int = 0) -> None:
    if now >= window.turn_at:
        window.turn(now)
    window.counts[counter] += 1


def recent(window: Window, now: float, counter: int = 0) -> int:
    if now >= window.turn_at:
        window.turn(now)
    return window.recent(counter)


@pytest.mark.parametrize(
    ("age_s", "is_recent"), [(0, True), (5, True), (8.9, True), (10, False), (11, False), (1e9, False)]
)
def test_what_is_recent(age_s: float, is_recent: bool) -> None:
    window = Window(10, 1)
    count(window, 1000.5)
    assert recent(window, 1000.5 + age_s) == is_recent


def test_counters_are_apart_and_forgotten_together() -> None:
    window = Window(10, 2)
    for counter in (0, 1, 1):
        count(window, 3.0, counter)
    assert (recent(window, 4.0, 0), recent(window, 4.0, 1)) == (1, 2)
    window.forget()
    assert (recent(window, 4.0, 0), recent(window, 4.0, 1)) == (0, 0)
    count(window, 4.0, 1)
    assert (recent(window, 4.0, 0), recent(window, 4.0, 1)) == (0, 1)


@given(st.lists(st.integers(0, 30), max_size=60))
def test_agrees_with_remembering_everything(steps: list[int]) -> None:
    window, now, seen = Window(BUCKETS, 1), 0, []  # buckets of one second, whole seconds: the ring is exact
    for step in steps:
        now += step
        count(window, now)
        seen.append(now)
        assert recent(window, now) == sum(1 for moment in seen if now - moment < BUCKETS)
        assert window.turn_at > now
