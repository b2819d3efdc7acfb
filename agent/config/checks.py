"""What no model can see alone: names that must exist, addresses that must differ, contradictions."""

from collections.abc import Iterator
from typing import Any

from agent.config.check_addresses import check_addresses
from agent.config.check_callers import check_callers
from agent.config.check_files import check_files
from agent.config.check_numbers import check_numbers
from agent.config.check_routes import check_routes
from agent.config.check_time import check_time
from agent.config.check_workers import check_workers
from agent.config.errors import Fault
from agent.config.names import Names
from agent.config.root import Config

CHECKS = (check_addresses, check_callers, check_routes, check_time, check_numbers, check_files, check_workers)


def check(config: Config, names: Names) -> Iterator[Fault]:
    """All faults and warnings across sections. Paths are those of `config`.

    `names` has also what was taken out of `config` because something else in it is wrong.
    """
    for one in CHECKS:
        yield from one(config, names)


def names_of(data: Any) -> Names:
    """The names that the file gives, whether or not what they name is right."""

    def keys(section: str) -> tuple[str, ...]:
        value = data.get(section) if isinstance(data, dict) else None
        return tuple(value) if isinstance(value, dict) else ()

    has_app = isinstance(data, dict) and data.get("app") is not None
    return Names(issuers=keys("issuers"), upstreams=keys("upstreams"), has_app=has_app)
