"""Medians and percentiles of the bench."""

import pytest

from bench.stats import median, percentile, spread


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], 3.0), ([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 3.0], 2.5), ([1.0, 1.0, 9.0], 1.0)],
)
def test_median(values: list[float], expected: float) -> None:
    assert median(values) == expected


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(50, 50.0), (99, 99.0), (99.5, 100.0), (100, 100.0), (1, 1.0), (0.1, 1.0)],
)
def test_percentile_is_a_value_that_was_seen(percent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


@pytest.mark.parametrize(("count", "rank"), [(1000, 999), (5000, 4995), (4999, 4995)])
def test_percentile_rounds_its_rank_up(count: int, rank: int) -> None:
    assert percentile([float(n) for n in range(1, count + 1)], 99.9) == rank


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_percentile_refuses_what_is_none(percent: float) -> None:
    with pytest.raises(ValueError, match="no percentage"):
        percentile([1.0], percent)


def test_no_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="median"):
        median([])
    with pytest.raises(ValueError, match="percentile"):
        percentile([], 50)


def test_spread_is_relative_to_the_median() -> None:
    assert spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)
    assert spread([0.0, 0.0]) == 0.0
