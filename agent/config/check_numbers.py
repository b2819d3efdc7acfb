"""Checks of numbers that no bound refuses: what is compared with infinity or with no number at all never ends."""

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from pydantic import BaseModel

from agent.config.errors import Fault, Path
from agent.config.names import Names
from agent.config.root import Config


def check_numbers(config: Config, names: Names) -> Iterator[Fault]:
    """Every number that the file gives is finite."""
    del names
    yield from _walk(config, ())


def _walk(value: Any, path: Path) -> Iterator[Fault]:
    if isinstance(value, BaseModel):
        for name in value.model_fields_set:
            field = type(value).model_fields.get(name)
            yield from _walk(getattr(value, name), (*path, (field and field.alias) or name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(item, (*path, index))
    elif isinstance(value, float) and not isfinite(value):
        yield Fault(path, "must be a finite number", "Where a limit can be switched off, `null` does it.")
