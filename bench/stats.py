"""The few statistics that a report needs."""

import math
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the middle two. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values to take a median of")
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of the values don't exceed (nearest rank).

    Raises ValueError for no values, or for a percentage outside 0 < percent ≤ 100.
    """
    if not values:
        raise ValueError("no values to take a percentile of")
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is no percentage between 0 and 100")
    ordered = sorted(values)
    return ordered[math.ceil(percent * len(ordered) / 100) - 1]


def spread(values: Sequence[float]) -> float:
    """How far apart the rounds were: (largest - smallest) / median, 0.0 where the median is 0."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0
