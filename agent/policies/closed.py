"""A route that nobody may use: `auth: deny`."""

from typing import ClassVar

from agent.ports.policy import Deny, Policy, Verdict
from agent.wire.head import RequestHead
from agent.wire.problem import Refusal


class Closed(Policy):
    """Refuses every request with `route_denied` (403), whoever sends it."""

    __slots__ = ()

    name: ClassVar[str] = "closed"
    _DENY = Deny(Refusal("route_denied"), why="the route is closed to everybody: auth is deny")

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """See `Policy`."""
        return self._DENY

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """See `Policy`."""
        return "deny", self._DENY.why
