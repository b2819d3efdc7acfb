"""The jwt policy from the outside: what a request with this Authorization gets."""

import json
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from agent.identity.issuer import Issuer, open_issuer
from agent.identity.keystore import FixedKeys
from agent.policies.jwt import Jwt, Settings, Tokens, TokenSettings
from agent.ports.keys import Key, KeySource
from agent.ports.policy import Deny, Fact, Need
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from tests.kit.head import request_head
from tests.kit.tokens import (
    ISSUER,
    SECRET,
    WALL,
    b64,
    claims,
    issuer_settings,
    jwk,
    private_key,
    sign,
    token,
)

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class World:
    """One route with its policy, and the two clocks."""

    def __init__(self, *issuers: Issuer, tokens: TokenSettings | None = None, **settings: Any) -> None:
        self.registry = Registry()
        self.now = 1000.0
        self.wall = WALL
        self.issuers = issuers or (open_issuer("main", issuer_settings(), registry=self.registry),)
        self.tokens = Tokens(self.issuers, tokens, wall=lambda: self.wall)
        names = tuple(issuer.name for issuer in self.issuers)
        self.policy = Jwt(
            Settings(issuers=names, **settings), route="orders", registry=self.registry, tokens=self.tokens
        )

    def ask(self, value: bytes | None) -> tuple[RequestHead, Deny | Need | None]:
        head = request_head(fields={} if value is None else {b"authorization": value})
        explained = self.policy.explain(head, self.now)
        verdict = self.policy.on_request(head, self.now)
        word = {Deny: "deny", Need: "need", type(None): "allow"}[type(verdict)]
        assert explained[0] == word, explained
        assert (head.identity is not None) == (verdict is None and value is not None)
        return head, verdict

    def allows(self, value: bytes) -> RequestHead:
        head, verdict = self.ask(value)
        assert verdict is None, verdict.why if isinstance(verdict, Deny) else verdict
        return head

    def refuses(self, value: bytes | None, code: str = "token_invalid", why: str = "") -> Deny:
        head, verdict = self.ask(value)
        assert isinstance(verdict, Deny)
        assert (verdict.refusal.code, head.request_extra) == (code, b"")
        assert why in verdict.why
        return verdict

    def count(self, result: str) -> int:
        return self.registry.counter("outrigger_token_cache_total", "", ("route", "result")).at("orders", result)[0]


def bearer(jws: bytes) -> bytes:
    return b"Bearer " + jws


# Good tokens


@pytest.mark.parametrize("alg", [*ALGORITHMS, "HS256"])
def test_tokens_of_another_implementation_are_accepted(alg: str) -> None:
    world = World(open_issuer("main", issuer_settings(alg), registry=Registry()))
    key: Any = SECRET if alg == "HS256" else private_key(alg)
    made = pyjwt.encode(claims(scope="a b"), key, algorithm=alg, headers={"kid": "k1"})
    head = world.allows(bearer(made.encode()))
    assert head.identity is not None
    assert (head.identity.subject, head.identity.issuer) == ("jane", "main")
    assert head.identity.scopes == {"a", "b"}


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_our_tokens_are_accepted_and_other_signatures_are_not(alg: str) -> None:
    world = World(open_issuer("main", issuer_settings(alg), registry=Registry()))
    good = token(alg=alg)
    world.allows(bearer(good))
    world.refuses(bearer(token(alg=alg, key=private_key(alg, "k2"))), why="signature")
    signed, _, signature = good.rpartition(b".")
    world.refuses(bearer(token(claims(sub="eve"), alg=alg).rpartition(b".")[0] + b"." + signature), why="signature")
    for size in (0, 1, 32, 63, 64, 65, 95, 97, 131, 133, 255, 256, 257, 512):
        for filling in (b"\x00", b"\xff", b"\x01"):
            if size:
                world.refuses(bearer(signed + b"." + b64(filling * size)))


def test_the_application_learns_who_it_is_and_nothing_else() -> None:
    issuer = issuer_settings(
        roles_from=["roles"], tenant_from="org", claim_headers={"x-email": "email", "x-flag": "flag", "x-none": "none"}
    )
    world = World(open_issuer("main", issuer, registry=Registry()))
    made = token(claims(roles=["b", "a,c", "ü"], scope="s2 s1", org="t 1", email="j@e.x\r\nx: y", flag=True))
    head = world.allows(bearer(made))
    assert head.request_extra == (
        b"x-outrigger-subject: jane\r\n"
        b"x-outrigger-issuer: main\r\n"
        b"x-outrigger-tenant: t%201\r\n"
        b"x-outrigger-roles: a%2Cc,b,%C3%BC\r\n"
        b"x-outrigger-scopes: s1 s2\r\n"
        b"x-email: j@e.x%0D%0Ax:%20y\r\n"
        b"x-flag: true\r\n"
    )
    assert world.allows(bearer(made)).request_extra == head.request_extra


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER ", b"bEaReR ", b"Bearer   "])
def test_the_scheme_is_read_as_rfc_6750_says(scheme: bytes) -> None:
    world = World()
    world.allows(scheme + token())
    assert len(world.tokens.young) == 1
    world.allows(b"Bearer " + token(claims()))


# The attack table


def _unsigned(alg: str) -> bytes:
    return b64(json.dumps({"alg": alg, "kid": "k1"}).encode()) + b"." + b64(json.dumps(claims()).encode()) + b"."


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "none ", " none", "", "null"])
def test_unsigned_tokens_are_refused(alg: str) -> None:
    world = World()
    world.refuses(bearer(_unsigned(alg)))
    world.refuses(bearer(_unsigned(alg) + b"AA"))
    world.refuses(bearer(_unsigned(alg) + token().rpartition(b".")[2]))


def test_public_keys_are_no_secrets() -> None:
    """RS→HS confusion (CVE-2015-9235): the attacker signs with what everyone knows."""
    world = World()
    public = private_key("RS256").public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    pkcs1 = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    for secret in (pem, pem.strip(), der, pkcs1, json.dumps(jwk("RS256")).encode(), b"", b"\x00" * 32):
        for alg in ("HS256", "HS384", "HS512", "RS256", "hs256"):
            world.refuses(bearer(token(alg=alg, key=secret)))


def test_no_key_serves_another_algorithm() -> None:
    """An issuer may allow several algorithms; a key still verifies only its own."""
    everything = issuer_settings(algorithms=ALGORITHMS, jwks={"keys": [jwk("RS256"), jwk("ES256", "e1")]})
    world = World(open_issuer("main", everything, registry=Registry()))
    world.allows(bearer(token()))
    world.allows(bearer(token(alg="ES256", kid="e1")))
    world.refuses(bearer(token(alg="PS256")), why="not exactly one PS256 key")
    world.refuses(bearer(token(alg="RS512")), why="not exactly one RS512 key")
    world.refuses(bearer(token(alg="ES256", kid="k1")), why="not exactly one ES256 key")
    world.refuses(bearer(token(kid="zzz")), why="issuer main has no key 'zzz'; there are: 'e1', 'k1'")
    wrong = token(alg="RS256", kid="e1", key=private_key("ES256", "e1"), header={"alg": "RS256"})
    world.refuses(bearer(wrong))


@pytest.mark.parametrize(
    ("end", "words"),
    [(600, "valid for another 600 s"), (-10, "expired 10 s ago, within leeway_s"), (None, "without an end")],
)
def test_what_leeway_adds_is_not_told_as_validity(end: int | None, words: str) -> None:
    world = World(open_issuer("main", issuer_settings(require_exp=False), registry=Registry()))
    value = bearer(token(claims(exp=... if end is None else WALL + end)))
    head = request_head(fields={b"authorization": value})
    verdict, why = world.policy.explain(head, world.now)
    assert (verdict, why.endswith(words)) == ("allow", True), why


@pytest.mark.parametrize("alg", ["RS384", "PS256", "ES256", "EdDSA", "rs256", "RS256 ", "RS257", "HS256", "ES256K"])
def test_algorithms_that_are_not_pinned_are_refused(alg: str) -> None:
    made = token(header={"alg": alg})
    World().refuses(bearer(made), why="alg")


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": jwk("RS256", "k2")},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"jwk": None},
        {"crit": ["b64"], "b64": False},
        {"crit": ["exp"]},
        {"b64": False},
        {"typ": "logout+jwt"},
        {"typ": "secevent+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": ""},
        {"kid": "../../../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": "k1\x00"},
        {"kid": ""},
        {"kid": ["k1"]},
    ],
    ids=str,
)
def test_header_tricks_are_refused_and_lead_nowhere(header: dict[str, Any]) -> None:
    """Even where the signature is good. With inline keys there is nothing to fetch: a `Need` would be a defect."""
    World().refuses(bearer(token(header=header)))
    World().refuses(bearer(token(header=header, key=private_key("RS256", "k2"))))


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_access_tokens_have_one_of_these_types(typ: str) -> None:
    World().allows(bearer(token(header={"typ": typ})))


def test_a_configured_type_is_required() -> None:
    world = World(open_issuer("main", issuer_settings(typ="at+jwt"), registry=Registry()))
    world.allows(bearer(token(header={"typ": "at+jwt"})))
    world.allows(bearer(token(header={"typ": "application/AT+jwt"})))
    world.refuses(bearer(token()), why="typ")
    world.refuses(bearer(token(header=b'{"alg":"RS256","kid":"k1"}')), why="typ")


def test_a_foreign_issuer_is_refused_even_with_a_known_key() -> None:
    world = World()
    wrong: list[Any] = [
        "https://evil.example",
        ISSUER + "/",
        ISSUER.upper(),
        ISSUER + "\x00",
        "",
        None,
        1,
        [ISSUER],
        {},
        ...,
    ]
    for iss in wrong:
        world.refuses(bearer(token(claims(iss=iss))), why="'iss'")


def test_issuers_keep_their_keys_apart() -> None:
    """The key of one issuer can't sign for another one, whatever the key is called."""
    other = "https://other.example"
    first = open_issuer("first", issuer_settings(), registry=Registry())
    settings = issuer_settings(issuer=other, jwks={"keys": [jwk("RS256", "k2", kid="k1")]})
    second = open_issuer("second", settings, registry=Registry())
    world = World(first, second)
    head = world.allows(bearer(token(claims(iss=other), key=private_key("RS256", "k2"))))
    assert head.identity is not None
    assert head.identity.issuer == "second"
    world.refuses(bearer(token(claims(iss=other), key=private_key("RS256", "k1"))), why="signature")
    world.refuses(bearer(token(claims(), key=private_key("RS256", "k2"))), why="signature")


def test_two_issuers_of_one_name_are_refused_when_configured() -> None:
    pair = [open_issuer(name, issuer_settings(), registry=Registry()) for name in ("a", "b")]
    with pytest.raises(ValueError, match="issuers a and b are both"):
        Tokens(pair)


def test_ecdsa_signatures_have_one_form() -> None:
    world = World(open_issuer("main", issuer_settings("ES256"), registry=Registry()))
    signed, _, encoded = token(alg="ES256").rpartition(b".")
    raw = sign(signed, "ES256", private_key("ES256"))
    world.allows(bearer(signed + b"." + b64(raw)))
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    bad = {
        "DER": encode_dss_signature(r, s),
        "zero": bytes(64),
        "zero r": bytes(32) + raw[32:],
        "zero s": raw[:32] + bytes(32),
        "order": order.to_bytes(32) * 2,
        "r + order": ((r + order) % 2**256).to_bytes(32) + raw[32:],
        "short": raw[:-1],
        "long": raw + b"\x00",
        "padded": b"\x00" + raw[:32] + b"\x00" + raw[32:],
        "swapped": raw[32:] + raw[:32],
    }
    for name, signature in bad.items():
        assert world.refuses(bearer(signed + b"." + b64(signature))), name
    assert encoded


def test_rsa_signatures_have_one_form() -> None:
    world = World()
    signed, _, _ = token().rpartition(b".")
    raw = sign(signed, "RS256", private_key("RS256"))
    world.allows(bearer(signed + b"." + b64(raw)))
    for signature in (b"\x00" + raw, raw + b"\x00", raw[:-1], bytes(256), b"\x00" * 255 + b"\x01"):
        world.refuses(bearer(signed + b"." + b64(signature)))


def test_ed448_is_not_taken_for_ed25519() -> None:
    world = World(open_issuer("main", issuer_settings("EdDSA"), registry=Registry()))
    signed = token(alg="EdDSA").rpartition(b".")[0]
    world.refuses(bearer(signed + b"." + b64(ed448.Ed448PrivateKey.generate().sign(signed))), why="signature")


GOOD = token()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(b".")


@pytest.mark.parametrize(
    "value",
    [
        GOOD + b".",
        b"." + GOOD,
        GOOD + b"=",
        GOOD + b"==",
        HEADER + b"=." + PAYLOAD + b"." + SIGNATURE,
        HEADER + b".." + PAYLOAD + b"." + SIGNATURE,
        HEADER + b"." + PAYLOAD,
        HEADER + b"." + PAYLOAD + b".",
        HEADER + b"..",
        b"..",
        GOOD + b"x",
        GOOD[:-1],
        GOOD + b" ",
        b" " + GOOD + b"\t",
        GOOD + b"\n",
        GOOD + b"\x00",
        GOOD + b", " + GOOD,
        GOOD + b"," + GOOD,
        GOOD + b" " + GOOD,
        GOOD + b", Basic YTpi",
        b'"' + GOOD + b'"',
        b"token=" + GOOD,
        GOOD.replace(b".", b"%2E"),
        GOOD.replace(b".", "\u3002".encode()),
        HEADER + b"." + PAYLOAD.replace(b"J", b"J\r\n ", 1) + b"." + SIGNATURE,
        b"\xff\xfe\xfd",
        b"{}",
        HEADER + b".." + SIGNATURE,
        GOOD + b"." + b"a" * 9000,
        b"a" * 100_000,
        b".".join([b64(b"[" * 2000)] * 3),
    ],
    ids=range(31),
)
def test_malformed_tokens_are_refused(value: bytes) -> None:
    World().refuses(bearer(value))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"iss":"https://sso.example/realms/shop","iss":"https://sso.example/realms/shop"}',
        json.dumps(claims()).encode()[:-1] + b',"aud":"orders"}',
        json.dumps(claims()).encode()[:-1] + b',"role":"a","role":"admin"}',
        json.dumps(claims()).encode()[:-1] + b',"deep":' + b"[" * 1000 + b"]" * 1000 + b"}",
        json.dumps(claims()).encode()[:-1] + b',"x":NaN}',
        json.dumps(claims()).encode()[:-1] + b',"x":1e400}',
        json.dumps(claims()).encode()[:-1] + b',"x":"\xff"}',
        json.dumps(claims()).encode()[:-1] + b',"x":"\\ud800"}',
        json.dumps(claims()).encode() + b"{}",
        json.dumps(claims()).encode().decode().encode("utf-16"),
        json.dumps([claims()]).encode(),
        b"null",
        b"x",
    ],
    ids=range(13),
)
def test_malformed_claims_are_refused_though_the_signature_is_good(payload: bytes) -> None:
    World().refuses(bearer(token(payload)))


def test_oversized_tokens_are_refused_unread() -> None:
    made = bearer(token(claims(filling="x" * 5500)))
    world = World()
    assert len(made) < 8192
    world.allows(made)
    world.refuses(bearer(token(claims(filling="x" * 6000))), why="max_token_bytes")
    small = World(tokens=TokenSettings(max_token_bytes=256))
    small.refuses(bearer(token()), why="max_token_bytes")


@pytest.mark.parametrize("value", [b"Bearer", b"bearer", b"Bearer ", b"Bearer    "])
def test_a_scheme_without_a_token_is_a_bad_token(value: bytes) -> None:
    World().refuses(value, why="nothing after")
    World(optional=True).refuses(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic YTpi",
        b"Bearer\t" + GOOD,
        b"Bearer\xc2\xa0" + GOOD,
        b"Bearer:" + GOOD,
        b"Token " + GOOD,
        GOOD,
        b" Bearer " + GOOD,
        b"Basic YTpi, Bearer " + GOOD,
        b"DPoP " + GOOD,
        b"BearerX " + GOOD,
        b'Digest username="a"',
    ],
)
def test_other_schemes_are_no_bearer_token(value: bytes) -> None:
    deny = World().refuses(value, "token_missing", why="scheme")
    assert not any(secret in deny.why for secret in ("eyJ", "YTpi", "username")), "it is logged"
    World(optional=True).refuses(value, "token_missing")


# Answers


def test_answers_say_what_rfc_6750_asks_for() -> None:
    world = World(realm="shop")
    plain = b'www-authenticate: Bearer realm="shop"\r\n'
    assert plain in world.refuses(None, "token_missing").refusal.head
    invalid = world.refuses(b"Bearer x").refusal
    assert b'Bearer realm="shop", error="invalid_token", error_description="' in invalid.head
    expired = world.refuses(bearer(token(claims(exp=WALL - 100))), "token_expired").refusal
    assert b'error="invalid_token", error_description="The access token expired"' in expired.head
    assert [refusal.status for refusal in (invalid, expired)] == [401, 401]


def test_the_reason_is_for_the_log_only() -> None:
    deny = World().refuses(bearer(token(claims(aud="billing\r\ninjected"))), why="'aud'")
    assert b"billing" not in deny.refusal.render()
    assert "\n" not in deny.why


def test_optional_lets_only_the_missing_token_pass() -> None:
    world = World(optional=True)
    head, verdict = world.ask(None)
    assert (verdict, head.identity, head.request_extra) == (None, None, b"")
    world.refuses(b"Bearer x")
    world.refuses(bearer(token(claims(exp=WALL - 100))), "token_expired")
    world.allows(bearer(token()))


# What is remembered


def test_a_token_is_verified_once() -> None:
    world = World()
    first = world.allows(bearer(GOOD))
    again = world.allows(bearer(bytes(bytearray(GOOD))))
    assert again.identity is first.identity
    assert (world.count("hit"), world.count("miss")) == (1, 1)


def test_a_remembered_token_ends_with_its_expiry() -> None:
    world = World()
    made = bearer(token(claims(exp=WALL + 20)))
    world.allows(made)
    world.now, world.wall = world.now + 49.9, world.wall + 49.9  # 20 s and 30 s of leeway
    world.allows(made)
    world.now, world.wall = world.now + 0.1, world.wall + 0.1
    world.refuses(made, "token_expired")


def test_a_remembered_token_is_verified_again_after_five_minutes() -> None:
    """The monotonic clock stands still while a machine is suspended; the wall clock then is hours ahead."""
    world = World()
    made = bearer(GOOD)
    world.allows(made)
    world.wall += 7200
    world.now += 299.9
    world.allows(made)
    world.now += 0.2
    world.refuses(made, "token_expired")


def test_another_token_with_the_same_end_is_another_token() -> None:
    world = World()
    world.allows(bearer(GOOD))
    forged = b64(json.dumps(claims(sub="admin")).encode())
    world.refuses(bearer(HEADER + b"." + forged + b"." + SIGNATURE), why="signature")
    world.refuses(b"Basic " + GOOD, "token_missing")
    world.refuses(b"Bearer x, Bearer " + GOOD)
    world.refuses(GOOD[-40:], "token_missing")
    world.allows(bearer(GOOD))


def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    world = World(tokens=TokenSettings(cache_entries=8))
    kept = bearer(GOOD)
    for index in range(40):
        world.allows(bearer(token(claims(jti=str(index)))))
        world.allows(kept)
        assert len(world.tokens.young) + len(world.tokens._old) <= 8
    assert world.count("miss") == 41


def test_refused_tokens_are_not_remembered() -> None:
    world = World()
    for made in (token(key=private_key("RS256", "k2")), token(claims(aud="x")), token(claims(exp=WALL - 99)), b"x"):
        world.ask(bearer(made))
    assert [*world.tokens.young, *world.tokens._old, *world.tokens._headers] == []


class _Keys(KeySource):
    """Keys that a test takes away."""

    def __init__(self) -> None:
        self.inner = FixedKeys(dict(_rs256_keys()))
        self.generation = 0
        self.here = True
        self.wanted: Fact | None = None

    @property
    def available(self) -> bool:
        return self.here

    def lookup(self, kid: str | None, alg: str) -> Key | None:
        return self.inner.lookup(kid, alg) if self.here else None

    def need(self, kid: str | None) -> Fact | None:
        return self.wanted


class _Fact:
    async def fetch(self) -> None:
        raise AssertionError("policies never fetch")


def _rs256_keys() -> dict[tuple[str | None, str], Key]:
    issuer = open_issuer("main", issuer_settings(), registry=Registry())
    key = issuer.keys.lookup("k1", "RS256")
    assert key is not None
    return {("k1", "RS256"): key}


def test_a_token_whose_key_went_is_refused_though_it_was_remembered() -> None:
    keys = _Keys()
    world = World(Issuer("main", issuer_settings(), keys))
    world.allows(bearer(GOOD))
    keys.inner = FixedKeys({})
    world.allows(bearer(GOOD))
    keys.generation += 1
    world.refuses(bearer(GOOD), why="not exactly one RS256 key")


def test_a_key_that_went_is_also_forgotten_in_the_older_generation() -> None:
    keys = _Keys()
    world = World(Issuer("main", issuer_settings(), keys), tokens=TokenSettings(cache_entries=2))
    world.allows(bearer(GOOD))
    world.allows(bearer(token(claims(jti="2"))))
    keys.inner, keys.generation = FixedKeys({}), 1
    world.refuses(bearer(GOOD))


def test_keys_that_are_not_there_yet_are_asked_for_and_then_503() -> None:
    keys = _Keys()
    keys.here, keys.wanted = False, _Fact()
    world = World(Issuer("main", issuer_settings(), keys))
    _, verdict = world.ask(bearer(GOOD))
    assert isinstance(verdict, Need)
    assert verdict.fact is keys.wanted
    keys.wanted = None
    deny = world.refuses(bearer(GOOD), "keys_unavailable")
    assert (deny.refusal.status, b"retry-after: " in deny.refusal.head) == (503, True)
    keys.here = True
    world.allows(bearer(GOOD))


def test_nothing_is_asked_of_the_provider_for_what_can_not_become_good() -> None:
    keys = _Keys()
    keys.here, keys.wanted = False, _Fact()
    world = World(Issuer("main", issuer_settings(), keys))
    for made in (
        token(claims(iss="https://evil.example")),
        token(alg="ES256"),
        token(header={"jku": "https://evil.example"}),
        token(header={"typ": "logout+jwt"}),
        GOOD + b"=",
        _unsigned("none"),
    ):
        world.refuses(bearer(made))


def test_a_token_without_identifier_means_the_only_key() -> None:
    world = World()
    world.allows(bearer(token(kid=None)))
    two = issuer_settings(jwks={"keys": [jwk("RS256"), jwk("RS256", "k2")]})
    world = World(open_issuer("main", two, registry=Registry()))
    world.refuses(bearer(token(kid=None)), why="no kid")
    world.allows(bearer(token(kid="k2")))


def test_a_shared_secret_takes_any_identifier_and_no_other_secret() -> None:
    world = World(open_issuer("main", issuer_settings("HS256"), registry=Registry()))
    world.allows(bearer(token(alg="HS256", kid="whatever", key=SECRET.encode())))
    world.allows(bearer(token(alg="HS256", kid=None, key=SECRET.encode())))
    world.refuses(bearer(token(alg="HS256", key=SECRET.encode() + b"x")), why="signature")
    world.refuses(bearer(token(alg="HS512", key=SECRET.encode())), why="alg")


def test_the_token_is_forwarded_unless_configured_otherwise() -> None:
    assert World().policy.forward_token is True
    assert World(forward_token=False).policy.forward_token is False
