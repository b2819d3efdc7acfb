"""A bar chart of CPU per request as plain SVG, legible on light and dark pages."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.results import Results

_WIDTH, _BAR, _GAP, _LEFT, _RIGHT = 720, 22, 8, 110, 90
_GROUP = 34
_OWN, _OTHER, _INK = "#0b7285", "#adb5bd", "#868e96"


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar."""

    label: str
    value: float


def groups(results: Results) -> list[tuple[str, list[Bar]]]:
    """The cases that are drawn, each with the peers that have a number, cheapest first."""
    drawn = []
    for name in ("bare", "full", "full-10k", "fresh-token"):
        case = results.case(name)
        if case is None:
            continue
        found = {peer: case.median(peer, "cpu_us") for peer in case.samples if peer != "direct"}
        bars = [Bar(peer, value) for peer, value in found.items() if value is not None]
        if bars:
            drawn.append((case.title, sorted(bars, key=lambda bar: bar.value)))
    return drawn


def _bar(bar: Bar, top: float, scale: float) -> str:
    colour = _OWN if bar.label == "outrigger" else _OTHER
    width, middle = bar.value * scale, top + _BAR * 0.7
    return (
        f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end" fill="{_INK}">{escape(bar.label)}</text>'
        f'<rect x="{_LEFT}" y="{top:.0f}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>'
        f'<text x="{_LEFT + width + 6:.1f}" y="{middle:.0f}" fill="{_INK}">{bar.value:.1f} µs</text>'
    )


def svg(drawn: list[tuple[str, list[Bar]]]) -> str:
    """The picture. All bars share one scale, so that groups can be compared with each other."""
    largest = max((bar.value for _, bars in drawn for bar in bars), default=1.0)
    scale = (_WIDTH - _LEFT - _RIGHT) / largest
    parts, top = [], 8.0
    for title, bars in drawn:
        parts.append(f'<text x="{_LEFT}" y="{top + 16:.0f}" font-weight="600" fill="{_INK}">{escape(title)}</text>')
        top += _GROUP - _GAP
        for bar in bars:
            parts.append(_bar(bar, top, scale))
            top += _BAR + _GAP
        top += _GAP
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top:.0f}" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img">\n'
        f"<title>CPU microseconds per request, less is better</title>\n{body}\n</svg>\n"
    )
