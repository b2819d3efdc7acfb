"""What a registry knew at one moment, as JSON can carry it between workers, and the sum of several such moments."""

import math
from collections.abc import Iterable
from typing import Literal, TypedDict

Kind = Literal["counter", "gauge", "histogram"]
Combine = Literal["sum", "max"]
Value = float | str | list[float]
"""A number, the text of one that JSON has no form for (``NaN``, ``Infinity``), or a histogram's counts and sum."""


class FamilySnapshot(TypedDict):
    """One metric with all its series: label values, in the order of `labels`, and value."""

    name: str
    kind: Kind
    help: str
    labels: list[str]
    combine: Combine
    """How the values of several workers make one."""
    bounds: list[float]
    """Upper bounds of a histogram's buckets, without the last one, which is infinite."""
    series: list[tuple[list[str], Value]]


class Snapshot(TypedDict):
    """All metrics of a process, or of several. `info` holds the labels of `target_info`: who is measured."""

    info: dict[str, str]
    families: list[FamilySnapshot]


def plain(value: float) -> float | str:
    """A gauge's value (1 for True), or its text where JSON has no number for it."""
    return +value if math.isfinite(value) else str(float(value)).replace("nan", "NaN").replace("inf", "Infinity")


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """One view over all workers: counters and histograms are added, gauges as each declares.

    The label values, order and `info` of the first that has them win. Raises ValueError where two workers declare the
    same name differently.
    """
    merged: Snapshot = {"info": {}, "families": []}
    families: dict[str, FamilySnapshot] = {}
    values: dict[str, dict[tuple[str, ...], Value]] = {}
    for snapshot in snapshots:
        merged["info"] = merged["info"] or dict(snapshot["info"])
        for family in snapshot["families"]:
            name = family["name"]
            if name not in families:
                families[name] = {**family, "series": []}
                values[name] = {}
            elif any(families[name][part] != family[part] for part in ("kind", "labels", "bounds", "combine")):
                raise ValueError(f"metric {name}: two workers declare it differently")
            known = values[name]
            for label_values, value in family["series"]:
                key = tuple(label_values)
                known[key] = _add(known[key], value, family["combine"]) if key in known else value
    for name, one in families.items():
        one["series"] = [(list(key), value) for key, value in values[name].items()]
    merged["families"] = list(families.values())
    return merged


def _add(left: Value, right: Value, combine: Combine) -> Value:
    if isinstance(left, list) and isinstance(right, list):
        return [a + b for a, b in zip(left, right, strict=True)]
    assert not isinstance(left, list)
    assert not isinstance(right, list)
    if isinstance(left, str) or isinstance(right, str):
        left, right = float(left), float(right)
    return plain(max(left, right) if combine == "max" else left + right)
