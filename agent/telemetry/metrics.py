"""Metrics as plain lists that the hot path adds to; everything else happens when someone looks.

A cell is resolved once (`at`) and then changed without a call. One event loop owns a registry: cells have no locks.
"""

import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from agent.telemetry.snapshot import Combine, FamilySnapshot, Kind, Snapshot, Value, plain

OVERFLOW = "__overflow__"
"""The value of every label of the one series that stands for all that `max_series` refused."""

LATENCY_BOUNDS: tuple[float, ...] = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Seconds. A proxy's own share lies below a millisecond, where the usual bounds see nothing."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LABEL = re.compile(r"(?!__)[a-z_][a-z0-9_]*")

C = TypeVar("C", list[int], list[float])


class Family(Generic[C]):
    """One metric: a name, label names, and a cell for each combination of label values."""

    __slots__ = ("_cells", "_registry", "bounds", "combine", "help", "labels", "limited", "name")

    kind: ClassVar[Kind]

    def __init__(self, registry: "Registry", name: str, help_text: str, labels: tuple[str, ...]) -> None:
        self._registry = registry
        self._cells: dict[tuple[str, ...], C] = {}
        self.name = name
        self.help = help_text
        self.labels = labels
        self.combine: Combine = "sum"
        self.bounds: tuple[float, ...] = ()
        self.limited = bool(labels)
        """Whether its series count towards the limit."""

    def at(self, *label_values: str) -> C:
        """The cell of these label values, made on first use. Keep it: the hot path only changes it.

        Beyond the registry's limit it is the cell of the family's overflow series. Raises ValueError where there are
        more or fewer values than labels.
        """
        return self._cells.get(label_values) or self._cells.setdefault(self._place(label_values), self._zero())

    def forget(self, *label_values: str) -> None:
        """Drop a series whose subject is gone for good (a removed target), so that churn doesn't use up the limit."""
        if self._cells.pop(label_values, None) is not None and self._is_limited(label_values):
            self._registry.series -= 1

    def keys(self) -> Iterable[tuple[str, ...]]:
        """The label values of all series."""
        return self._cells.keys()

    def freeze(self) -> FamilySnapshot:
        """All series as they are now."""
        return {
            "name": self.name,
            "kind": self.kind,
            "help": self.help,
            "labels": list(self.labels),
            "combine": self.combine,
            "bounds": list(self.bounds),
            "series": [(list(label_values), value) for label_values, value in self._values()],
        }

    def _values(self) -> Iterator[tuple[tuple[str, ...], Value]]:
        raise NotImplementedError

    def _zero(self) -> C:
        raise NotImplementedError

    def _place(self, label_values: tuple[str, ...]) -> tuple[str, ...]:
        """The label values of the series that these values belong to."""
        if len(label_values) != len(self.labels):
            raise ValueError(f"metric {self.name} has the labels {self.labels}, got the values {label_values}")
        # A lone surrogate has no UTF-8 form: it would fail every scrape from then on.
        key = tuple(value.encode(errors="backslashreplace").decode() for value in label_values)
        if key in self._cells or not self._is_limited(key) or self._registry.admit(self.name):
            return key
        return (OVERFLOW,) * len(key)

    def _is_limited(self, label_values: tuple[str, ...]) -> bool:
        """Overflow series and those without labels are one a family: bounded by the code, not by the traffic."""
        return self.limited and any(value != OVERFLOW for value in label_values)


class Watchable(Family[C]):
    """One number for each combination of label values, kept in its cell or read from a callback when scraped."""

    __slots__ = ("_watched",)

    def __init__(self, registry: "Registry", name: str, help_text: str, labels: tuple[str, ...]) -> None:
        super().__init__(registry, name, help_text, labels)
        self._watched: dict[tuple[str, ...], Callable[[], float]] = {}

    def watch(self, read: Callable[[], float], *label_values: str) -> None:
        """Ask `read` at every scrape. A later call for the same label values replaces it.

        A `read` that raises leaves its series out of that scrape and is counted in
        `outrigger_metrics_watch_errors_total`.
        """
        key = self._place(label_values)
        self._cells.setdefault(key, self._zero())
        self._watched[key] = read
        self._registry.asked_for(self, key)

    def forget(self, *label_values: str) -> None:
        """Drop a series and its callback."""
        self._watched.pop(label_values, None)
        super().forget(*label_values)

    def _values(self) -> Iterator[tuple[tuple[str, ...], Value]]:
        for label_values, cell in list(self._cells.items()):
            value: float = cell[0]
            read = self._watched.get(label_values)
            if read is not None:
                try:
                    value = read()
                except Exception:  # noqa: BLE001  one broken reading must not cost the operator all the others
                    self._registry.watch_failed(self.name)
                    continue
            yield label_values, plain(value)


class Counter(Watchable[list[int]]):
    """Only goes up: `cell[0] += 1`."""

    __slots__ = ()
    kind = "counter"

    def _zero(self) -> list[int]:
        return [0]


class Gauge(Watchable[list[float]]):
    """Goes up and down: `cell[0] = 3`."""

    __slots__ = ()
    kind = "gauge"

    def at(self, *label_values: str) -> list[float]:
        """See `Family.at`."""
        self._registry.asked_for(self, label_values)
        return super().at(*label_values)

    def _zero(self) -> list[float]:
        return [0]


class Histogram(Family[list[float]]):
    """How values are spread: `cell[bisect_left(bounds, value)] += 1; cell[-1] += value`.

    A cell has one count for each bound (values up to and with it, above the one before), one for all that is larger,
    and last the sum.
    """

    __slots__ = ()
    kind = "histogram"

    def _zero(self) -> list[float]:
        return [0] * (len(self.bounds) + 1) + [0.0]

    def _values(self) -> Iterator[tuple[tuple[str, ...], Value]]:
        for label_values, cell in self._cells.items():
            yield label_values, list(cell)


F = TypeVar("F", Counter, Gauge, Histogram)


class Registry:
    """All metrics of one process. Asking again for a name returns the same family, so a reload keeps its counts.

    `max_series` bounds the series with labels over all families; whatever comes later is counted in one overflow
    series a family.
    """

    __slots__ = ("_asked", "_families", "_overflows", "_watch_errors", "info", "max_series", "series")

    def __init__(self, *, max_series: int = 5000) -> None:
        self.max_series = max_series
        self.series = 0
        """How many series with labels there are, without the overflow ones."""
        self.info: dict[str, str] = {}
        """Labels of `target_info`, which says who is measured: `service_name`, `service_version`, …"""
        self._families: dict[str, Any] = {}
        self._asked: set[tuple[str, tuple[str, ...]]] | None = None
        self._overflows = self.counter(
            "outrigger_metrics_series_overflow_total",
            "Look-ups that max_series sent to an overflow series.",
            ("metric",),
        )
        self._watch_errors = self.counter(
            "outrigger_metrics_watch_errors_total", "Readings of a gauge that failed and were left out.", ("metric",)
        )
        self._overflows.limited = self._watch_errors.limited = False
        self.gauge("outrigger_metrics_series", "Series with labels, over all metrics.").watch(lambda: self.series)

    def counter(self, name: str, help: str, labels: tuple[str, ...] = ()) -> Counter:  # noqa: A002
        """The counter of this name, which ends in `_total`. Raises ValueError where it was declared otherwise."""
        if not name.endswith("_total"):
            raise ValueError(f"metric {name}: the name of a counter ends in _total")
        return self._family(Counter(self, name, help, labels))

    def gauge(
        self,
        name: str,
        help: str,  # noqa: A002
        labels: tuple[str, ...] = (),
        *,
        combine: Combine = "sum",
    ) -> Gauge:
        """The gauge of this name. `combine` says how the values of several workers make one.

        Raises ValueError where it was declared otherwise.
        """
        gauge = Gauge(self, name, help, labels)
        gauge.combine = combine
        return self._family(gauge)

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002
        labels: tuple[str, ...] = (),
        bounds: tuple[float, ...] = LATENCY_BOUNDS,
    ) -> Histogram:
        """The histogram of this name; `bounds` rise and are finite.

        Raises ValueError where it was declared otherwise.
        """
        if not bounds or list(bounds) != sorted(set(bounds)) or not all(map(math.isfinite, bounds)):
            raise ValueError(f"metric {name}: bounds must rise and be finite, got {bounds}")
        if "le" in labels:
            raise ValueError(f"metric {name}: the label le belongs to the buckets of a histogram")
        histogram = Histogram(self, name, help, labels)
        histogram.bounds = bounds
        return self._family(histogram)

    def snapshot(self) -> Snapshot:
        """All values now, as JSON can carry them; gauges that watch are read."""
        return {"info": dict(self.info), "families": [family.freeze() for family in list(self._families.values())]}

    def begin_generation(self) -> None:
        """From now on it is noted which gauges are asked for: a new configuration is being brought to life."""
        self._asked = set()

    def asked_for(self, family: "Family[Any]", label_values: tuple[str, ...]) -> None:
        """Called by gauges."""
        if self._asked is not None:
            self._asked.add((family.name, label_values))

    def end_generation(self, live: Mapping[str, Container[str]], *, remade: str) -> None:
        """Forget what only the configuration before had, so that churn neither uses up series nor keeps it alive.

        `live` has the values that labels may still have. The owners of gauges with the label `remade` were all made
        anew since `begin_generation`: such a gauge that nobody has asked for shows something that isn't there any more.
        """
        asked, self._asked = self._asked, None
        for family in self._families.values():
            for key in list(family.keys()):
                labelled = zip(family.labels, key, strict=True)
                is_gone = any(
                    name in live and value not in live[name] and value != OVERFLOW for name, value in labelled
                )
                is_left = family.kind == "gauge" and remade in family.labels and (family.name, key) not in (asked or ())
                if is_gone or is_left:
                    family.forget(*key)

    def admit(self, name: str) -> bool:
        """Whether the family may open one more series with labels. A refusal is counted."""
        if self.series < self.max_series:
            self.series += 1
            return True
        self._overflows.at(name)[0] += 1
        return False

    def watch_failed(self, name: str) -> None:
        """Count a reading of the gauge that raised."""
        self._watch_errors.at(name)[0] += 1

    def _family(self, asked: F) -> F:
        known = self._families.get(asked.name)
        if known is not None:
            for part in ("kind", "labels", "bounds", "combine"):
                was, now = getattr(known, part), getattr(asked, part)
                if was != now:
                    raise ValueError(f"metric {asked.name} is declared twice: {part} was {was!r}, now {now!r}")
            assert isinstance(known, type(asked))
            return known
        self._check_name(asked)
        if len(set(asked.labels)) != len(asked.labels):
            raise ValueError(f"metric {asked.name}: a label is named twice in {asked.labels}")
        for label in asked.labels:
            if not _LABEL.fullmatch(label):
                raise ValueError(f"metric {asked.name}: {label!r} is no label name (lower-case letters, digits, _)")
        self._families[asked.name] = asked
        return asked

    def _check_name(self, asked: Any) -> None:
        if not _NAME.fullmatch(asked.name):
            raise ValueError(f"metric {asked.name!r}: a name has lower-case letters, digits and underscores")
        for other in self._families.values():
            if clash := _exposed(asked) & _exposed(other):
                raise ValueError(f"metric {asked.name}: metric {other.name} is exposed as {min(clash)} too")


def _exposed(family: Any) -> set[str]:
    """The names under which a scraper sees the family (OpenMetrics refuses two families that share one)."""
    name = family.name
    if family.kind == "counter":
        return {name, name.removesuffix("_total")}
    if family.kind == "histogram":
        return {name, f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return {name}
