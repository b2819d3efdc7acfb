"""The table of the local API as long as no building block is configured."""

from agent.api import capabilities, health
from agent.drivers.control_messages import Handler
from agent.ports.operator import LocalView


def local_endpoints(view: LocalView) -> dict[tuple[str, str], Handler]:
    """Method and path → handler, for a `ControlServer`."""
    return health.endpoints(view) | capabilities.endpoints(view)
