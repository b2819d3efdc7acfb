"""The data path of one process: made of a configuration, changed by the next one in a single step."""

import gc
from collections.abc import Callable
from typing import NamedTuple

from agent.assembly.chain import Parts, carry_state, shared_policies
from agent.assembly.clusters import (
    Live,
    app_cluster,
    app_definition,
    upstream_cluster,
    upstream_definition,
)
from agent.assembly.tables import Compiler, Tables, about
from agent.config.names import APP
from agent.config.root import Config
from agent.core.tasks import spawn
from agent.identity.issuer import Issuer, open_issuer
from agent.policies.concurrency import Concurrency
from agent.policies.jwt import Tokens
from agent.ports.policy import Policy
from agent.proxy.context import Context
from agent.proxy.surface import InboundSurface, OutboundSurface

Warn = Callable[[str], None]


class Generation(NamedTuple):
    """What one configuration brought to life."""

    config: Config
    tables: Tables
    clusters: dict[str, Live]
    issuers: dict[str, Issuer]


class DataPath:
    """Both surfaces and all that they consult. Made inside the event loop."""

    def __init__(self, context: Context, *, tls: bool, share: float = 1.0, warn: Warn) -> None:
        """`share` is this process's part of every limit (1/workers). `warn` takes sentences for the log."""
        self.context = context
        self.inbound = InboundSurface(context, scheme=b"https" if tls else b"http")
        self.outbound = OutboundSurface(context)
        self._share = share
        self._warn = warn
        self.generation: Generation | None = None

    def use(self, config: Config) -> None:
        """Swap to `config` as a whole. Raises (ConfigError, KeySetError, ValueError) and leaves the old tables.

        Requests that have begun go on under the old tables; connections, counts and key sets stay where their
        definition is the same. What is gone takes its metrics along.
        """
        old = self.generation
        registry = self.context.registry
        registry.begin_generation()
        new = self.prepare(config)
        self._begin(new, old)
        if old is not None:
            registry.end_generation(_live_labels(new), remade="route")
            gc.collect()  # the old tables are knots, and the collector comes seldom: a millisecond, mostly

    def prepare(self, config: Config) -> Generation:
        """As `use`, but begins no background work: for explanations offline, where no loop runs."""
        old = self.generation
        clusters = self._clusters(config, old)
        issuers = self._issuers(config, old)
        tables = self._compile(config, clusters, issuers, old)
        self.generation = Generation(config, tables, clusters, issuers)
        owned = frozenset(name.encode() for one in config.issuers.values() for name in one.claim_headers)
        self.inbound.use(tables.routes, tables.default, tables.ambiguous, tables.trust, owned)
        self.outbound.use(tables.upstreams, tables.hosts, tables.unknown)
        self.context.sample_ratio = config.telemetry.traces.sample_ratio
        self.context.trust_sampled = config.telemetry.traces.trust_incoming
        return self.generation

    def _clusters(self, config: Config, old: Generation | None) -> dict[str, Live]:
        known = old.clusters if old is not None else {}

        def kept(name: str, definition: str) -> Live | None:
            return known[name] if name in known and known[name].definition == definition else None

        clusters = {
            name: kept(name, upstream_definition(settings))
            or upstream_cluster(name, settings, self.context, self._warn)
            for name, settings in config.upstreams.items()
        }
        if config.app is not None:
            app = kept(APP, app_definition(config.app))
            clusters[APP] = app or app_cluster(config.app, self.context, self._warn)
        return clusters

    def _issuers(self, config: Config, old: Generation | None) -> dict[str, Issuer]:
        known = old.issuers if old is not None else {}
        return {
            name: known[name]
            if name in known and known[name].settings == settings
            else open_issuer(name, settings, registry=self.context.registry)
            for name, settings in config.issuers.items()
        }

    def _compile(
        self, config: Config, clusters: dict[str, Live], issuers: dict[str, Issuer], old: Generation | None
    ) -> Tables:
        verifiers: dict[tuple[str, ...], Tokens] = {}

        def tokens(names: tuple[str, ...]) -> Tokens:
            key = tuple(sorted(names))
            if key not in verifiers:
                verifiers[key] = Tokens([issuers[name] for name in key], config.tokens)
            return verifiers[key]

        shared = self._shared(config)
        if old is not None:
            for name, policies in shared.items():
                carry_state(policies, old.tables.shared.get(name, ()))
        parts = Parts(self.context.registry, tuple(config.issuers), tokens, self._share, shared)
        named = {name: live.cluster for name, live in clusters.items()}
        return Compiler(config, self.context, named, parts, old.tables if old is not None else None).compile()

    def _shared(self, config: Config) -> dict[str, tuple[Policy, ...]]:
        registry = self.context.registry
        shared = {}
        for name, settings in config.upstreams.items():
            with about(f"upstreams.{name}"):
                shared[name] = shared_policies(name, settings, registry, self._share)
        if config.app is not None and config.app.concurrency is not None:
            with about("app.max_concurrency"):
                shared[APP] = (Concurrency(config.app.concurrency, route=APP, registry=registry, share=self._share),)
        return shared

    def _begin(self, new: Generation, old: Generation | None) -> None:
        for name, live in new.clusters.items():
            before = old.clusters.get(name) if old is not None else None
            if before is live:
                continue
            if before is not None:
                _retire(before)
            live.cluster.announce()
            live.resolver.start()
        for name, issuer in new.issuers.items():
            if old is None or old.issuers.get(name) is not issuer:
                issuer.start()
        if old is not None:
            for name, before in old.clusters.items():
                if name not in new.clusters:
                    _retire(before)
                    before.cluster.forget()
            for name, issuer in old.issuers.items():
                if new.issuers.get(name) is not issuer:
                    spawn(issuer.stop(), name=f"stop issuer {name}")

    async def close(self) -> None:
        """Stop background work and close idle connections."""
        if self.generation is not None:
            for live in self.generation.clusters.values():
                _retire(live)
            for issuer in self.generation.issuers.values():
                await issuer.stop()
        self.context.close()


def _live_labels(generation: Generation) -> dict[str, frozenset[str]]:
    """By label of a metric: the values that this configuration still has a use for."""
    plans, config = generation.tables.plans, generation.config
    return {
        "route": frozenset({*plans, *map("upstream:{}".format, config.upstreams), APP}),
        "http_route": frozenset(plan.template for plan in plans.values()),
        "upstream": frozenset(generation.clusters),
        "issuer": frozenset(generation.issuers),
        "limit": frozenset(limit.name for route in config.routes for limit in route.rate_limits),
    }


def _retire(live: Live) -> None:
    live.resolver.stop()
    live.cluster.close()
