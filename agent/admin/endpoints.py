"""The table of the admin API: all its themes, and the index at `/`."""

from agent.admin import configuration, drain, explain, log_level, metrics, probes
from agent.admin.index import index
from agent.drivers.control_messages import Handler
from agent.ports.operator import SidecarView

OPEN_PATHS = ("/livez", "/readyz")
"""Need no token: the kubelet has none."""


def admin_endpoints(view: SidecarView) -> dict[tuple[str, str], Handler]:
    """Method and path → handler, for a `ControlServer`."""
    table: dict[tuple[str, str], Handler] = {}
    for theme in (probes, metrics, configuration, log_level, drain, explain):
        table |= theme.endpoints(view)
    return table | index(table)
