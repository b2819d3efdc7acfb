"""The straight path of each policy: the request is allowed, and what can be remembered is."""

import json
import time
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric import rsa

from agent.identity.issuer import Issuer
from agent.identity.jwk import read_key_set
from agent.identity.keystore import FixedKeys
from agent.identity.settings import IssuerSettings
from agent.policies import authorize, circuit_breaker, jwt, rate_limit
from agent.ports.policy import Policy
from agent.telemetry.metrics import Registry
from agent.traffic.match import MatchSettings
from agent.traffic.routes import RouteTable
from agent.wire.head import RequestHead
from bench import tokens
from bench.micro.timing import Micro
from tests.kit.head import request_head

_NOW = 1000.0


def _issuer(key: rsa.RSAPrivateKey) -> Issuer:
    read = read_key_set(json.dumps(tokens.jwks(key.public_key())).encode(), ["RS256"])
    settings = IssuerSettings.model_validate(
        {"issuer": tokens.ISSUER, "audiences": [tokens.AUDIENCE], "roles_from": ["realm_access.roles"]}
    )
    return Issuer("main", settings, FixedKeys(read.keys))


def _ask(policy: Policy, head: RequestHead) -> Micro:
    def call() -> object:
        # Else the head would grow with every call, as no request's ever does.
        head.request_extra = head.response_extra = b""
        return policy.on_request(head, _NOW)

    return Micro(f"{policy.name}, allows", call)


def micros() -> Iterator[Micro]:
    """In the order of a route's chain."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    value = f"Bearer {tokens.sign(key, tokens.claims(1, int(time.time())))}".encode()
    head = request_head(path=b"/orders/42", fields={b"authorization": value})
    table = RouteTable([("orders", MatchSettings.model_validate({"path": "/orders/**"}), 1)])
    yield Micro("routes.match, known path", lambda: table.match(head))

    registry = Registry()
    verifier = jwt.Tokens([_issuer(key)])
    first = jwt.Jwt(jwt.Settings(issuers=("main",)), route="orders", registry=registry, tokens=verifier)
    if first.on_request(head, _NOW) is not None:
        raise RuntimeError("the token was refused, so there is no straight path to time")
    yield _ask(first, head)
    yield Micro("jwt, a token never seen", lambda: verifier.judge(value, _NOW))

    asked = authorize.Settings.model_validate({"roles": {"any": [tokens.ROLE]}})
    yield _ask(authorize.Authorize(asked, route="orders", registry=registry), head)
    for algorithm in ("sliding_window", "fixed_window", "token_bucket", "gcra"):
        limit = {"name": algorithm, "limit": 1_000_000_000, "per_s": 1, "algorithm": algorithm, "key": ["subject"]}
        settings = rate_limit.Settings.model_validate(limit)
        made = _ask(rate_limit.RateLimit([settings], route="orders", registry=registry), head)
        yield Micro(f"rate_limit, {algorithm}", made.call)
    breaker = circuit_breaker.CircuitBreaker(circuit_breaker.Settings(), route="orders", registry=registry)
    yield _ask(breaker, head)
