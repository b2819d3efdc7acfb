"""What is measured: each case is one kind of load on one variant of several peers."""

from dataclasses import dataclass

from bench import backend, outrigger_config

_ALL = ("outrigger", "envoy", "haproxy", "nginx", "direct")
_WITH_TOKENS = ("outrigger", "envoy", "haproxy")


@dataclass(frozen=True, slots=True)
class Case:
    """Closed-loop load by wrk."""

    name: str
    title: str
    variant: str
    peers: tuple[str, ...]
    path: str = backend.SMALL
    connections: int = 64
    method: str = "GET"
    body_bytes: int = 0
    fresh_tokens: bool = False
    """Each token once, so every proxy is started anew for each round: nothing may be in its cache."""


def _alone(variant: str, title: str) -> Case:
    return Case(f"alone-{variant.replace('_', '-')}", title, variant, ("outrigger",))


CASES: tuple[Case, ...] = (
    Case("bare", "Forward, no policies", "bare", _ALL),
    Case("full", "All policies", "full", (*_WITH_TOKENS, "nginx")),
    Case("full-10k", "All policies, 10 KiB answer", "full", _WITH_TOKENS, path=backend.LARGE),
    Case(
        "full-upload",
        "All policies, 64 KiB upload",
        "full",
        _WITH_TOKENS,
        path=backend.UPLOAD,
        method="POST",
        body_bytes=backend.UPLOAD_BYTES,
    ),
    Case("full-1000", "All policies, 1,000 connections", "full", _WITH_TOKENS, connections=1000),
    Case("fresh-token", "All policies, each token new", "full", _WITH_TOKENS, fresh_tokens=True),
)
"""Compared with the peers."""

ALONE: tuple[Case, ...] = (
    _alone("bare", "nothing"),
    _alone("jwt", "cached JWT"),
    _alone("role", "cached JWT and role"),
    _alone("rate_limit", "rate limit by address"),
    _alone("breaker", "circuit breaker"),
    _alone("trace", "trace sampling"),
    _alone("log", "access log"),
    _alone("full", "all of them"),
)
"""The cost of each policy by itself, on Outrigger only."""

assert {case.variant for case in ALONE} == set(outrigger_config.VARIANTS)

LATENCY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("bare", _ALL),
    ("full", ("direct", *_WITH_TOKENS, "nginx")),
)
"""Variant and peers of the fixed-rate runs. The direct way is part of each, as what the others add to."""

FOOTPRINT: tuple[str, ...] = ("outrigger", "envoy", "haproxy", "nginx")
"""Peers whose idle memory and start are measured, each with all policies."""

SECTIONS = (*(case.name for case in CASES), "alone", "latency", "footprint")
"""What `--only` accepts."""
