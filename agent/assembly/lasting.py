"""What a running process can't change: a reload leaves it as it was, and says so."""

from collections.abc import Iterator

from pydantic import BaseModel

from agent.config.root import Config
from agent.runtime.reload import needs_restart

_SECTIONS = ("service", "listen", "workers", "limits", "lifecycle", "reload", "supervision")


def in_force(started: Config, read: Config) -> tuple[Config, list[str]]:
    """`read` with all that lasts as long as the process taken from `started`, and sentences about what that ignores."""
    now = {name: getattr(started, name) for name in _SECTIONS}
    telemetry, logs = started.telemetry, started.telemetry.logs
    now["telemetry"] = read.telemetry.model_copy(
        update={
            "metrics": telemetry.metrics,
            "logs": read.telemetry.logs.model_copy(update={"buffer": logs.buffer}),
        }
    )
    effective = read.model_copy(update=now)
    warnings = needs_restart([change for name in now for change in _changes(name, effective, read)])
    if read.upstreams and not started.upstreams:
        warnings.append("upstreams needs a restart: there were none, so nothing listens on listen.outbound")
    return effective, warnings


def _changes(path: str, old_owner: BaseModel, new_owner: BaseModel) -> Iterator[tuple[str, object, object]]:
    """(path, in force, in the file) of every single value below `path` that differs."""
    name = path.rpartition(".")[2]
    old, new = getattr(old_owner, name), getattr(new_owner, name)
    if isinstance(old, BaseModel) and isinstance(new, BaseModel) and type(old) is type(new):
        for field in type(old).model_fields:
            yield from _changes(f"{path}.{field}", old, new)
    elif old != new:
        yield path, _shown(old), _shown(new)


def _shown(value: object) -> object:
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else "a section" if isinstance(value, BaseModel) else value
