"""JSON as an outline for people: no braces, aligned, rows of like things as a table."""

from collections.abc import Mapping, Sequence
from typing import Any


def outline(data: Mapping[str, Any], indent: str = "") -> str:
    """`data` as indented text, without a line break at its end. Empty things are left out."""
    shown = {key: value for key, value in data.items() if value not in (None, "", [], {}, ())}
    width = max((len(key) for key, value in shown.items() if not _is_nested(value)), default=0)
    lines = []
    for key, value in shown.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}", outline(value, indent + "  ")]
        elif _is_nested(value):
            lines += [f"{indent}{key}", _rows(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key:<{width}}  {_text(value)}")
    return "\n".join(lines)


def _is_nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(v, Mapping) for v in value)


def _rows(rows: Sequence[Any], indent: str) -> str:
    """Rows that share their first key and hold only plain values as columns, any others one below the other."""
    if any(not isinstance(row, Mapping) or any(_is_nested(value) for value in row.values()) for row in rows):
        return "\n".join(outline(row, indent) if isinstance(row, Mapping) else f"{indent}{_text(row)}" for row in rows)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(key)) for key in keys] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(keys))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(item) for item in value)
    return "" if value is None else str(value)
