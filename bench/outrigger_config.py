"""Outrigger's configuration for the bench: nothing, everything, and each policy alone."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import tokens

JWT, ROLE, RATE_LIMIT, BREAKER, TRACE, LOG = "jwt", "role", "rate_limit", "breaker", "trace", "log"
ALL = frozenset({JWT, ROLE, RATE_LIMIT, BREAKER, TRACE, LOG})

VARIANTS: dict[str, frozenset[str]] = {
    "bare": frozenset(),
    "jwt": frozenset({JWT}),
    "role": frozenset({JWT, ROLE}),
    "rate_limit": frozenset({RATE_LIMIT}),
    "breaker": frozenset({BREAKER}),
    "trace": frozenset({TRACE}),
    "log": frozenset({LOG}),
    "full": ALL,
}
"""What each variant has switched on. A role needs a token to be found in."""

LIMIT = 10_000_000


@dataclass(frozen=True, slots=True)
class Places:
    """Ports of the loopback address, and the file of keys."""

    inbound: int
    admin: int
    local: int
    backend: int
    jwks: Path


def _listen(places: Places) -> dict[str, Any]:
    ports = {"inbound": places.inbound, "admin": places.admin, "local": places.local}
    return {name: {"host": "127.0.0.1", "port": port} for name, port in ports.items()}


def _route(features: frozenset[str]) -> dict[str, Any]:
    route: dict[str, Any] = {"name": "orders", "match": {"path": "/orders/**"}, "auth": "none"}
    if features == ALL:
        route["timeout_s"] = 2
    if JWT in features:
        route["auth"] = {"issuers": ["main"]}
    if ROLE in features:
        route["auth"]["roles"] = {"any": [tokens.ROLE]}
    if RATE_LIMIT in features:
        key = "subject" if JWT in features else "ip"
        limit = {"name": "per-user", "limit": LIMIT, "per_s": 1, "algorithm": "sliding_window", "key": [key]}
        route["rate_limits"] = [limit]
    if BREAKER in features:
        breaker = {"failure_ratio": 0.5, "window_s": 10, "min_requests": 20, "open_s": 5, "half_open": 3}
        route["circuit_breaker"] = breaker
    return route


def build(features: frozenset[str], places: Places) -> dict[str, Any]:
    """The configuration with these policies on its one route."""
    made: dict[str, Any] = {
        "service": {"name": "orders", "version": "1.0.0", "environment": "bench"},
        "app": {"url": f"http://127.0.0.1:{places.backend}", "max_concurrency": 10_000 if features else 0},
        "listen": _listen(places),
        "workers": 1,
        "routes": [_route(features)],
        "telemetry": {
            "traces": {"sample_ratio": 0.1 if TRACE in features else 0.0},
            "logs": {"access": LOG in features, "format": "json"},
        },
    }
    if JWT in features:
        issuer = {
            "issuer": tokens.ISSUER,
            "jwks": {"file": str(places.jwks)},
            "audiences": [tokens.AUDIENCE],
            "algorithms": ["RS256"],
            "roles_from": ["realm_access.roles"],
        }
        made["issuers"] = {"main": issuer}
    return made


def moved(given: dict[str, Any], places: Places) -> dict[str, Any]:
    """A user's own configuration on the bench's ports and application; everything else stays as it is."""
    made = copy.deepcopy(given)
    made["listen"] = {**made.get("listen", {}), **_listen(places)}
    made["app"] = {**made.get("app", {}), "url": f"http://127.0.0.1:{places.backend}"}
    return made
