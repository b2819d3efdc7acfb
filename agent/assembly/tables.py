"""One configuration compiled: every route and upstream as a plan, ready to replace the plans before it in one step."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from agent.assembly.chain import Parts, carry_state, chain_of
from agent.config.names import APP
from agent.config.root import Config
from agent.config.route import RouteSettings
from agent.policies.retry import RetryRule
from agent.policies.retry import Settings as RetrySettings
from agent.policies.timeout import Settings as TimeoutSettings
from agent.policies.timeout import Timeouts
from agent.ports.policy import Deny, Policy, Verdict
from agent.proxy.cluster import Cluster
from agent.proxy.context import Context
from agent.proxy.mirror import Mirroring
from agent.proxy.plan import Plan
from agent.proxy.recorder import RouteRecorder
from agent.proxy.refusals import REFUSALS
from agent.traffic.routes import RouteTable
from agent.traffic.split import Split
from agent.traffic.sticky import sticky_key
from agent.wire.forwarded import Trust
from agent.wire.head import RequestHead
from agent.wire.rewrite import Rewrite, RewriteSettings

DEFAULT = "default"
"""Name of the route of requests that no other route matches."""


class Refuse(Policy):
    """Refuses every request: where there is nothing that a request could be led to."""

    __slots__ = ("_deny",)

    name = "refuse"

    def __init__(self, code: str, why: str) -> None:
        self._deny = Deny(REFUSALS[code], why=why)

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """See `Policy`."""
        return self._deny

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """See `Policy`."""
        return "deny", self._deny.why


@contextmanager
def about(part: str) -> Iterator[None]:
    """Let a ValueError say which part of the configuration it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from error


class Tables(NamedTuple):
    """Everything that a reload replaces at once."""

    routes: RouteTable[Plan]
    default: Plan
    ambiguous: Plan
    trust: Trust
    upstreams: Mapping[bytes, Plan]
    hosts: Mapping[bytes, Plan]
    unknown: Plan
    plans: Mapping[str, Plan]
    """All of them by name; upstreams as ``upstream:NAME``."""
    shared: Mapping[str, tuple[Policy, ...]]
    """Cluster name → the policies that belong to it and not to one route."""


class Compiler:
    """Compiles one configuration. `old` are the tables before it, whose counts go on where definitions are the same."""

    def __init__(
        self, config: Config, context: Context, clusters: Mapping[str, Cluster], parts: Parts, old: Tables | None
    ) -> None:
        self._config = config
        self._context = context
        self._clusters = clusters
        self._parts = parts
        self._old = old
        self._plans: dict[str, Plan] = {}

    def compile(self) -> Tables:
        """Raises ValueError where a route's settings contradict each other."""
        config = self._config
        rows = [(route.name, route.match, self._route(route)) for route in config.routes]
        preflights = frozenset(route.name for route in config.routes if route.cors is not None)
        default = self._route(RouteSettings(name=DEFAULT))
        outbound = {name: self._upstream(name) for name in config.upstreams}
        hosts = {
            host.encode(): outbound[name]
            for name, settings in config.upstreams.items()
            for host in settings.hosts or (name.lower(),)
        }
        return Tables(
            RouteTable(rows, preflights=preflights),
            default,
            self._refusing("ambiguous", "bad_path", "a ';' or repeated query parameter could lead to another route"),
            Trust(config.trusted_proxies),
            {name.encode(): plan for name, plan in outbound.items()},
            hosts,
            self._refusing("unknown", "unknown_upstream", "no upstream is configured under that name or Host"),
            self._plans,
            self._parts.shared,
        )

    def _route(self, route: RouteSettings) -> Plan:
        names = [part.upstream for part in route.split] or [route.upstream or APP]
        plan = self._plan(route.name, route.match.path if route.name != DEFAULT else DEFAULT, self._times(route))
        plan.cluster = self._clusters.get(names[0])
        if route.split:
            ways = [(part.upstream, part.weight, self._clusters[part.upstream]) for part in route.split]
            key = sticky_key(route.sticky_by) if route.sticky_by is not None else None
            plan.choose = Split(ways, random.Random(), key)  # noqa: S311  a share of traffic is no secret
        elif route.upstream is not None:
            settings = self._config.upstreams[route.upstream]
            plan.host = None if settings.preserve_host else b""
        if route.mirror is not None:
            plan.mirror = Mirroring(self._clusters[route.mirror], self._context, self._parts.registry)
        if route.rewrite != RewriteSettings():
            plan.rewrite = Rewrite(route.rewrite, route.match.path)
            plan.host = plan.rewrite.host or plan.host
        plan.body_bytes = self._config.limits.body_bytes if route.body_bytes is None else route.body_bytes
        plan.log = route.access_log and self._config.telemetry.logs.access
        retry = route.retry
        if retry is None and route.upstream is not None:
            retry = self._config.upstreams[route.upstream].retry
        with about(f"route {route.name}"):
            chain = chain_of(route, self._parts, names[0] if len(names) == 1 else None)
        self._finish(plan, chain, retry)
        return plan

    def _times(self, route: RouteSettings) -> TimeoutSettings:
        times = route.limits_of_time
        if route.upstream is None or "connect_timeout_s" in route.timeouts.model_fields_set:
            return times
        its_own = self._config.upstreams[route.upstream].limits_of_time
        return times.model_copy(update={"connect_timeout_s": its_own.connect_timeout_s})

    def _upstream(self, name: str) -> Plan:
        """The plan of the application's own calls to an upstream."""
        settings = self._config.upstreams[name]
        label = f"upstream:{name}"
        plan = self._plan(label, label, settings.limits_of_time)
        plan.cluster = self._clusters[name]
        plan.host = None if settings.preserve_host else b""
        plan.body_bytes = 0
        plan.log = self._config.telemetry.logs.access
        self._finish(plan, self._parts.shared.get(name, ()), settings.retry)
        return plan

    def _refusing(self, name: str, code: str, why: str) -> Plan:
        plan = self._plan(name, name, RouteSettings(name=name).limits_of_time)
        self._finish(plan, (Refuse(code, why),))
        return plan

    def _plan(self, name: str, template: str, times: TimeoutSettings) -> Plan:
        registry = self._parts.registry
        timeouts = Timeouts(times, route=name, registry=registry)
        return Plan(name, template, None, RouteRecorder(registry, template), timeouts)

    def _finish(self, plan: Plan, chain: tuple[Policy, ...], retry: RetrySettings | None = None) -> None:
        if retry is not None:
            plan.retry = RetryRule(retry, route=plan.name, registry=self._parts.registry, rand=self._context.rand)
        before = self._old.plans.get(plan.name) if self._old is not None else None
        if before is not None:
            shared = [policy for policies in self._parts.shared.values() for policy in policies]
            carry_state([policy for policy in chain if policy not in shared], before.chain)
            if plan.retry is not None and before.retry is not None:
                plan.retry.adopt(before.retry)
        plan.set_chain(chain)
        plan.forward_token = all(policy.forward_token for policy in chain)
        changed = (plan.retry, plan.rewrite, plan.choose, plan.mirror)
        plan.is_plain = plan.cluster is not None and all(part is None for part in changed)
        plan.changes_request = plan.rewrite is not None or not plan.forward_token
        plan.drop_from_response = frozenset().union(*(policy.response_drop for policy in chain))
        self._plans[plan.name] = plan
