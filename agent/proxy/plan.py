"""What happens to the requests of one route, compiled once per configuration and never changed."""

from collections.abc import Callable

from agent.policies.retry import RetryRule
from agent.policies.timeout import Timeouts
from agent.ports.policy import Outcome, Policy, Verdict
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
        "changes_request",
        "checks",
        "choose",
        "cluster",
        "drop_from_response",
        "forward_token",
        "host",
        "is_plain",
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
        self.checks: tuple[Callable[[RequestHead, float], Verdict], ...] = ()
        """The policies' `on_request`, bound once: a call of many classes' method is slower than of a known object."""
        self.observers: tuple[tuple[int, Callable[[RequestHead, Outcome, float], None], Policy], ...] = ()
        """(place in the chain, `on_response`, policy) of those that learn from outcomes."""
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
        self.is_plain = False
        """Whether there is nothing to do but to forward: one cluster, no retry, rewrite or mirror."""
        self.changes_request = False
        """Whether the fields that go on aren't those that came: a rewrite, or the token is kept back."""
        self.log = True

    def set_chain(self, chain: tuple[Policy, ...]) -> None:
        """Take the policies, in the order in which they are asked."""
        self.chain = chain
        self.checks = tuple(policy.on_request for policy in chain)
        self.observers = tuple(
            (place, policy.on_response, policy) for place, policy in enumerate(chain) if policy.observes
        )
