"""What happens to the requests of one route, compiled once per configuration and never changed."""

from collections.abc import Callable

from agent.policies.retry import RetryRule
from agent.policies.timeout import Timeouts
from agent.ports.policy import Policy
from agent.proxy.cluster import Cluster
from agent.proxy.mirror import Mirroring
from agent.proxy.recorder import RouteRecorder
from agent.wire.head import RequestHead
from agent.wire.rewrite import Rewrite


class Plan:
    """One route: its policies in order, where it leads, and its bounds. Read on every request, so plain slots."""

    __slots__ = (
        "body_bytes",
        "chain",
        "choose",
        "cluster",
        "drop_from_response",
        "forward_token",
        "host",
        "log",
        "mirror",
        "name",
        "observers",
        "recorder",
        "retry",
        "rewrite",
        "template",
        "timeouts",
    )

    def __init__(
        self, name: str, template: str, cluster: Cluster | None, recorder: RouteRecorder, timeouts: Timeouts
    ) -> None:
        self.name = name
        self.template = template
        """The path as metrics show it; never the raw path."""
        self.chain: tuple[Policy, ...] = ()
        self.observers: tuple[tuple[int, Policy], ...] = ()
        """(place in the chain, policy) of those that learn from outcomes."""
        self.cluster = cluster
        """Where the route leads; None where there is nothing to forward to."""
        self.choose: Callable[[RequestHead], Cluster] | None = None
        """Picks the cluster per request where the route splits its traffic."""
        self.mirror: Mirroring | None = None
        self.recorder = recorder
        self.retry: RetryRule | None = None
        self.rewrite: Rewrite | None = None
        self.timeouts = timeouts
        self.body_bytes = 10 * 1024 * 1024
        """Largest request body; 0 for no limit."""
        self.forward_token = True
        """Whether `Authorization` reaches the application."""
        self.host: bytes | None = None
        """Host to send instead of the client's; ``b""`` for the target's own authority."""
        self.drop_from_response: frozenset[bytes] = frozenset()
        """Lower-case response fields that a policy owns: the application's own are dropped."""
        self.log = True

    def set_chain(self, chain: tuple[Policy, ...]) -> None:
        """Take the policies, in the order in which they are asked."""
        self.chain = chain
        self.observers = tuple((place, policy) for place, policy in enumerate(chain) if policy.observes)
