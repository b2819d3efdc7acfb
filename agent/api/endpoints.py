"""The table of the local API as long as no building block is configured."""

from agent.api import capabilities, health
from agent.drivers.control_messages import Handler, ProblemError, nothing_at
from agent.ports.operator import LocalView


def local_endpoints(view: LocalView) -> dict[tuple[str, str], Handler]:
    """Method and path → handler, for a `ControlServer`."""
    return health.endpoints(view) | capabilities.endpoints(view)


def missing(path: str) -> ProblemError:
    """What to say of a path that isn't in the table: that its building block isn't there, or that it means nothing."""
    version, _, rest = path.removeprefix("/").partition("/")
    block, slash, _ = rest.partition("/")
    if version != "v1" or not slash or block.replace("-", "_") not in capabilities.BLOCKS:
        return nothing_at(path)
    return ProblemError("unsupported", f"{block} isn't served here; GET /v1/capabilities says what is, and where.")
