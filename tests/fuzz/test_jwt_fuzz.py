"""Whatever bytes come as Authorization: 401 or a wait for keys, never an exception, and never somebody."""

import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.identity.claims import ClaimRules
from agent.identity.issuer import open_issuer
from agent.identity.jwk import KeySetError, read_key_set
from agent.policies.jwt import Jwt, Settings, Tokens
from agent.ports.keys import TokenError
from agent.ports.policy import Deny, Need
from agent.telemetry.metrics import Registry
from agent.wire.jws import JwsError, decode_segment, read_object
from tests.kit.head import request_head
from tests.kit.tokens import ISSUER, WALL, b64, claims, issuer_settings, jwk, jwks, token

REGISTRY = Registry()


def policy(**changed: Any) -> Jwt:
    issuer = open_issuer("main", issuer_settings(**changed), registry=REGISTRY)
    return Jwt(Settings(issuers=("main",)), route="r", registry=REGISTRY, tokens=Tokens([issuer], wall=lambda: WALL))


INLINE = policy()
FETCHED = policy(jwks={"url": "https://keys.example/keys"})
GOOD = token()
BEARER = b"Bearer " + GOOD

names = st.text(max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
named = st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "b64", "iss", "aud", "sub", "exp", "nbf", "iat", "scope"])
objects = st.dictionaries(named | st.text(max_size=5), values, max_size=5)
segments = st.binary(max_size=40) | objects.map(lambda value: b64(json.dumps(value).encode()))


def never_somebody(value: bytes) -> None:
    for judge in (INLINE, FETCHED):
        head = request_head(fields={b"authorization": value})
        verdict = judge.on_request(head, 0.0)
        assert (head.identity, head.request_extra) == (None, b"")
        assert isinstance(verdict, Need) or (isinstance(verdict, Deny) and verdict.refusal.status == 401)
        assert judge is FETCHED or isinstance(verdict, Deny)
        word, why = judge.explain(head, 0.0)
        assert word in ("deny", "need")
        assert why.isprintable()


@given(st.binary())
@example(b"")
@example(b"Bearer")
@example(b"bearer ..")
def test_any_bytes(value: bytes) -> None:
    never_somebody(value)


@given(st.lists(segments, max_size=5), st.sampled_from([b"Bearer ", b"bearer  ", b"BEARER\t"]))
def test_any_segments(parts: list[bytes], scheme: bytes) -> None:
    never_somebody(scheme + b".".join(parts))


@given(st.integers(0, len(BEARER) - 1), st.integers(0, 255), st.sampled_from(["replace", "insert", "cut", "double"]))
def test_a_good_token_with_one_byte_changed(position: int, byte: int, how: str) -> None:
    changed = {
        "replace": BEARER[:position] + bytes([byte]) + BEARER[position + 1 :],
        "insert": BEARER[:position] + bytes([byte]) + BEARER[position:],
        "cut": BEARER[:position],
        "double": BEARER[:position] + BEARER[position : position + 1] + BEARER[position:],
    }[how]
    scheme, _, rest = changed.partition(b" ")
    if scheme.lower() == b"bearer" and rest.lstrip(b" ") == GOOD:
        return
    never_somebody(changed)


@given(objects)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_claims_are_judged(payload: dict[str, Any]) -> None:
    """Even when signed: the rules answer with an identity whose headers are clean, or with a `TokenError`."""
    rules = ClaimRules(
        "main",
        issuer_settings(
            roles_from=["r", "scope"], tenant_from="kid", claim_headers={"x-typ": "typ"}, require_exp=False
        ),
    )
    for changed in (payload, claims() | payload, claims(kid="t") | {"scope": payload.get("scope", "")}):
        try:
            made = rules.identify(changed, now=0.0, wall=WALL)
        except TokenError:
            continue
        assert made.subject
        assert changed["iss"] == ISSUER
        for line in made.headers.removesuffix(b"\r\n").split(b"\r\n"):
            assert b": " in line
            assert all(32 <= byte < 127 for byte in line)


@given(st.binary() | objects.map(lambda value: json.dumps(value).encode()))
def test_any_json_is_read_as_the_library_reads_it_or_refused(raw: bytes) -> None:
    try:
        value = read_object(raw, "document")
    except JwsError:
        return
    assert value == json.loads(raw)


@given(st.binary())
def test_base64url_has_one_reading(segment: bytes) -> None:
    try:
        raw = decode_segment(segment, "part")
    except JwsError:
        return
    assert b64(raw) == segment


KEY = jwk("RS256")


@settings(max_examples=50)
@given(st.lists(objects.map(lambda changed: KEY | changed), max_size=2), objects)
def test_any_key_set_is_read_or_refused(keys: list[dict[str, Any]], more: dict[str, Any]) -> None:
    try:
        found = read_key_set(jwks(*keys, more), ["RS256", "ES256", "EdDSA"])
    except KeySetError:
        return
    assert all(alg == "RS256" for _, alg in found.keys)
