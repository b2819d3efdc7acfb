"""A snapshot as text for scrapers: Prometheus text format 0.0.4, and OpenMetrics 1.0 for those that ask for it."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from agent.telemetry.snapshot import FamilySnapshot, Snapshot, Value

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SERIES_PER_PART = 50
"""Series between two parts. A histogram costs about 17 µs, so no part holds the event loop for a millisecond."""

_UNITS = ("seconds", "bytes", "ratio")
_SPECIAL = {"NaN": "NaN", "Infinity": "+Inf", "-Infinity": "-Inf"}
_ESCAPED_LABEL = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_ESCAPED_HELP = str.maketrans({"\\": "\\\\", "\n": "\\n"})


def choose(accept_header: str) -> tuple[str, bool]:
    """The content type for an Accept header (RFC 9110, section 12.5.1), and whether it is OpenMetrics.

    OpenMetrics only where it is named and wanted at least as much as plain text; plain text in every other case.
    """
    open_quality, text_quality = 0.0, 0.0
    for choice in accept_header.lower().split(","):
        media, *rest = (part.strip() for part in choice.split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest)
        quality = _quality(parameters.get("q", "1"))
        if media == "application/openmetrics-text" and parameters.get("version", "1.0.0").strip('"') == "1.0.0":
            open_quality = max(open_quality, quality)
        elif media in {"text/plain", "text/*", "*/*"}:
            text_quality = max(text_quality, quality)
    return (OPENMETRICS, True) if open_quality and open_quality >= text_quality else (TEXT, False)


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


def render(snapshot: Snapshot, openmetrics: bool) -> bytes:
    """The whole exposition."""
    return b"".join(parts(snapshot, openmetrics))


def parts(snapshot: Snapshot, openmetrics: bool) -> Iterator[bytes]:
    """The exposition in parts of at most SERIES_PER_PART series, so that a server can do other things in between."""
    if snapshot["info"]:
        yield _encode(_info(snapshot["info"], openmetrics))
    for family in snapshot["families"]:
        series = family["series"]
        if not series:
            continue
        name, counted = family["name"], family["kind"] == "counter"
        head = _head(name.removesuffix("_total") if openmetrics and counted else name, family, openmetrics)
        for start in range(0, len(series), SERIES_PER_PART):
            lines = _series(family, series[start : start + SERIES_PER_PART])
            yield _encode([*head, *lines] if start == 0 else lines)
    if openmetrics:
        yield b"# EOF\n"


def _encode(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _info(labels: dict[str, str], openmetrics: bool) -> Iterator[str]:
    """Who is measured, as OpenTelemetry's mapping to Prometheus has it."""
    yield f"# HELP {'target' if openmetrics else 'target_info'} Who is measured."
    yield "# TYPE target info" if openmetrics else "# TYPE target_info gauge"
    yield f"target_info{{{_labels(labels, labels.values())}}} 1"


def _head(name: str, family: FamilySnapshot, openmetrics: bool) -> list[str]:
    escaped = family["help"].translate(_ESCAPED_LABEL if openmetrics else _ESCAPED_HELP)
    lines = [f"# HELP {name} {escaped}", f"# TYPE {name} {family['kind']}"]
    unit = name.rpartition("_")[2]
    if openmetrics and unit in _UNITS:
        lines.append(f"# UNIT {name} {unit}")
    return lines


def _series(family: FamilySnapshot, series: list[tuple[list[str], Value]]) -> Iterator[str]:
    name = family["name"]
    limits = [f'le="{_bound(bound)}"}}' for bound in family["bounds"]] + ['le="+Inf"}']
    for label_values, value in series:
        labels = _labels(family["labels"], label_values)
        braces = f"{{{labels}}}" if labels else ""
        if not isinstance(value, list):
            yield f"{name}{braces} {_number(value)}"
            continue
        start = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
        count: float = 0
        for limit, count in zip(limits, accumulate(value[:-1]), strict=True):
            yield f"{start}{limit} {count}"
        yield f"{name}_sum{braces} {_number(value[-1])}"
        yield f"{name}_count{braces} {count}"


def _labels(names: Iterable[str], values: Iterable[str]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPED_LABEL)}"' for name, value in zip(names, values, strict=True))


def _number(value: float | str) -> str:
    return _SPECIAL[value] if isinstance(value, str) else repr(value)


def _bound(bound: float) -> str:
    """As OpenMetrics wants it, in both formats, so that negotiation never splits a series: ``1.0``, ``1e+06``."""
    if bound < 1e6:
        return repr(float(bound))
    mantissa, _, exponent = f"{bound:.15e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"
