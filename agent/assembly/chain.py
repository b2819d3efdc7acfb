"""From a route's settings to its chain of policies, in the one order that holds for every route.

Cheapest refusals first: address, CORS (preflights carry no token), rate limits whose key needs no identity (they bound
how many tokens anybody can try), token, roles and scopes, rate limits that count callers, breaker, slots. A slot is
taken last, so that nothing that is refused ever held one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from agent.config.route import AuthSettings, RouteSettings
from agent.config.upstream import UpstreamSettings
from agent.core.tasks import spawn
from agent.policies.authorize import Authorize
from agent.policies.circuit_breaker import CircuitBreaker
from agent.policies.closed import Closed
from agent.policies.concurrency import Concurrency
from agent.policies.cors import Cors
from agent.policies.ip_access import IpAccess
from agent.policies.jwt import Jwt, Tokens
from agent.policies.rate_limit import RateLimit
from agent.policies.rate_limit import Settings as RateLimitSettings
from agent.policies.shadow import Shadow
from agent.ports.policy import Fact, Policy
from agent.telemetry.metrics import Registry


class Parts(NamedTuple):
    """What chains are made of, besides settings."""

    registry: Registry
    issuers: tuple[str, ...]
    """Names of all issuers that are configured."""
    tokens: Callable[[tuple[str, ...]], Tokens]
    """The shared verifier for a set of issuers."""
    share: float
    """This process's part of every limit: 1/workers."""
    shared: Mapping[str, tuple[Policy, ...]]
    """Cluster name → its own policies, shared by all routes that lead there and have none of the same kind."""


_MOST_PREFETCHES = 16
"""Facts of one route that are fetched in the background at a time: one would do, were they all of one issuer."""


class Prefetch:
    """Fetches for policies in shadow mode. Beyond a few at a time facts are left out: the next request asks again."""

    __slots__ = ("_under_way",)

    def __init__(self) -> None:
        self._under_way = 0

    def __call__(self, fact: Fact) -> None:
        """Begin to fetch, unless enough are under way: nobody waits, so nothing else would bound them."""
        if self._under_way < _MOST_PREFETCHES:
            self._under_way += 1
            spawn(self._fetch(fact), name="prefetch")

    async def _fetch(self, fact: Fact) -> None:
        try:
            await fact.fetch()
        finally:
            self._under_way -= 1


def chain_of(route: RouteSettings, parts: Parts, leads_to: str | None) -> tuple[Policy, ...]:
    """The policies of `route`, shadows wrapped. `leads_to` is its one cluster, None where it splits its traffic.

    Raises ValueError where the settings contradict each other.
    """
    name, registry = route.name, parts.registry
    chain: list[Policy] = []
    prefetch = Prefetch()

    def add(policy: Policy, mode: str) -> None:
        if mode == "shadow" or route.mode == "shadow":
            policy = Shadow(policy, route=name, registry=registry, prefetch=prefetch)
        chain.append(policy)

    if route.ip is not None:
        add(IpAccess(route.ip, route=name, registry=registry), route.ip.mode)
    if route.cors is not None:
        add(Cors(route.cors, route=name, registry=registry), route.cors.mode)
    auth = list(_auth(route, parts))
    # Where nobody is asked who he is, all limits stay together: they are charged all or none.
    early = [limit for limit in route.rate_limits if auth and limit.knows_nobody]
    for policy, mode in (*_limits(early, route, parts), *auth):
        add(policy, mode)
    late = [limit for limit in route.rate_limits if limit not in early]
    for policy, mode in _limits(late, route, parts, earlier=early):
        add(policy, mode)
    if route.circuit_breaker is not None:
        add(CircuitBreaker(route.circuit_breaker, route=name, registry=registry), route.circuit_breaker.mode)
    if route.concurrency is not None:
        concurrency = Concurrency(route.concurrency, route=name, registry=registry, share=parts.share)
        add(concurrency, route.concurrency.mode)
    if leads_to is not None:
        own = {policy.name for policy in chain if not isinstance(policy, Shadow)}  # a trial replaces nothing
        chain.extend(policy for policy in parts.shared.get(leads_to, ()) if policy.name not in own)
    return tuple(chain)


def _limits(
    limits: Sequence[RateLimitSettings], route: RouteSettings, parts: Parts, earlier: Sequence[RateLimitSettings] = ()
) -> Iterator[tuple[Policy, str]]:
    """One policy for those that refuse and one for those that only try: each charges its limits all or none."""
    for mode in ("enforce", "shadow"):
        of_mode = [limit for limit in limits if limit.mode == mode]
        before = [limit for limit in earlier if limit.mode == mode]
        if of_mode:
            yield (
                RateLimit(of_mode, route=route.name, registry=parts.registry, share=parts.share, earlier=before),
                mode,
            )


def shared_policies(name: str, settings: UpstreamSettings, registry: Registry, share: float) -> tuple[Policy, ...]:
    """An upstream's own breaker and slots, one instance for all who call it."""
    label = f"upstream:{name}"
    policies: list[tuple[Policy, str]] = []
    if settings.circuit_breaker is not None:
        breaker = CircuitBreaker(settings.circuit_breaker, route=label, registry=registry)
        policies.append((breaker, settings.circuit_breaker.mode))
    if settings.concurrency is not None:
        slots = Concurrency(settings.concurrency, route=label, registry=registry, share=share)
        policies.append((slots, settings.concurrency.mode))
    return tuple(
        Shadow(policy, route=label, registry=registry) if "shadow" in (mode, settings.mode) else policy
        for policy, mode in policies
    )


def _auth(route: RouteSettings, parts: Parts) -> Iterator[tuple[Policy, str]]:
    auth = route.auth
    if auth == "deny":
        yield Closed(), "enforce"
        return
    if auth == "none" or (auth is None and not parts.issuers):
        return
    settings = AuthSettings() if auth is None else auth
    token = settings.token_settings(parts.issuers)
    yield Jwt(token, route=route.name, registry=parts.registry, tokens=parts.tokens(token.issuers)), settings.mode
    if settings.asks:
        yield Authorize(settings, route=route.name, registry=parts.registry), settings.mode


def carry_state(chain: Iterable[Policy], old: Iterable[Policy]) -> None:
    """Let the policies of a new configuration go on with the counts of their predecessors on the same route.

    Each decides by itself whether its definition is still the same.
    """
    predecessors = list(old)
    for policy in chain:
        for predecessor in predecessors:
            if predecessor.name == policy.name and policy.adopt(predecessor):
                break
