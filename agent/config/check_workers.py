"""Checks of limits that workers share: each gives out its part, and what can't be divided is given to nobody."""

from collections.abc import Iterator

from agent.config.errors import Fault, Path
from agent.config.names import Names
from agent.config.root import Config

_SMALL = 5
"""Below it a client that reaches only one worker soon meets its part of a limit."""


def check_workers(config: Config, names: Names) -> Iterator[Fault]:
    """Each worker's part of every rate limit."""
    del names
    workers = config.workers
    if workers == 1:
        return
    for index, route in enumerate(config.routes):
        for place, limit in enumerate(route.rate_limits):
            path: Path = ("routes", index, "rate_limits", place, "limit")
            part, rest = divmod(limit.limit, workers)
            if not part:
                yield Fault(path, f"it can't be shared by {workers} workers", "Raise it, or run fewer workers.")
            elif rest or part < _SMALL:
                message = (
                    f"each of {workers} workers gives out {part} per {limit.per_s:g} s: a client that reaches only one "
                    f"gets no more, and all together {part * workers} of {limit.limit}"
                )
                remedy = f"Choose a larger multiple of {workers}, or run fewer workers."
                yield Fault(path, message, remedy, "warning")
