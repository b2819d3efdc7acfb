"""Settings of issuers, tokens and authorisation: what is refused before anything starts, and with which remedy."""

from typing import Any

import pytest
from pydantic import ValidationError

from agent.identity.issuer import open_issuer
from agent.identity.jwk import KeySetError
from agent.identity.settings import IssuerSettings
from agent.policies.jwt import Settings, TokenSettings
from agent.telemetry.metrics import Registry
from tests.kit.tokens import ISSUER, SECRET, issuer_settings, jwk


def settings(**changed: Any) -> IssuerSettings:
    return IssuerSettings.model_validate({"issuer": ISSUER, "audiences": ["orders"]} | changed)


def test_defaults_are_strict() -> None:
    made = settings()
    assert (made.algorithms, made.require_exp, made.accept_bound_tokens) == (("RS256",), True, False)


@pytest.mark.parametrize(
    "changed",
    [
        {"roles_from": ["realm_access.roles", ["resource_access", "my.client", "roles"]]},
        {"issuer": "http://127.0.0.1:8080/realms/x"},
        {"issuer": "http://localhost/realms/x"},
        {"issuer": "http://[::1]:8080"},
        {"issuer": "http://keycloak:8080/x", "jwks": {"allow_plain_http": True}},
        {"issuer": "not a URL at all", "jwks": {"file": "keys.json"}},
        {"issuer": "urn:x", "jwks": {"url": "https://keys.example/k?v=1"}},
        {"algorithms": ["HS256"], "secret": SECRET, "issuer": "local"},
        {"algorithms": ["ES256", "EdDSA"]},
        {"claim_headers": {"x-email": "email"}},
    ],
    ids=str,
)
def test_good_ones(changed: dict[str, Any]) -> None:
    settings(**changed)


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"audiences": []}, "at least 1"),
        ({"audiences": [""]}, "at least 1"),
        ({"audiences": "orders"}, "tuple"),
        ({"algorithms": []}, "at least 1"),
        ({"algorithms": ["none"]}, "RS256"),
        ({"algorithms": ["None"]}, "RS256"),
        ({"algorithms": ["HS512"]}, "RS256"),
        ({"algorithms": ["HS256"]}, "needs `secret`"),
        ({"algorithms": ["RS256", "HS256"]}, "needs `secret`"),
        ({"algorithms": ["RS256", "HS256"], "secret": SECRET}, r"algorithms: \[HS256\] alone"),
        ({"secret": SECRET}, r"algorithms: \[HS256\] alone"),
        ({"algorithms": ["HS256"], "secret": "short"}, "32 bytes"),
        ({"algorithms": ["HS256"], "secret": SECRET, "jwks": {"file": "x"}}, "exclude"),
        ({"algorithms": ["HS256"], "secret": "-----BEGIN PUBLIC KEY-----\n" + "A" * 99}, "put public keys under"),
        ({"algorithms": ["HS256"], "secret": '{"kty":"RSA","n":"' + "A" * 99}, "put public keys under"),
        ({"jwks": {"file": "x", "url": "https://a.example"}}, "exclude each other"),
        ({"jwks": {"keys": []}}, "at least 1"),
        ({"jwks": {"url": "http://keys.example/k"}}, "use https"),
        ({"jwks": {"url": "ftp://keys.example/k"}}, "https://HOST/PATH"),
        ({"jwks": {"url": "file:///etc/passwd"}}, "https://HOST/PATH"),
        ({"jwks": {"url": "https://u:p@keys.example/k"}}, "no credentials"),
        ({"jwks": {"url": "https://keys.example/k\r\nx"}}, "percent-encoded"),
        ({"issuer": "http://sso.example"}, "use https"),
        ({"issuer": "http://localhost.evil.example"}, "use https"),
        ({"issuer": "http://127.0.0.1.evil.example"}, "use https"),
        ({"issuer": "urn:shop"}, "https://HOST/PATH"),
        ({"issuer": "https://sso.example/x?y=1"}, "set jwks.url"),
        ({"issuer": "https://sso.example/realms/{tenant}"}, "templates"),
        ({"issuer": ""}, "at least 1"),
        ({"leeway_s": -1}, "greater"),
        ({"leeway_s": 3600}, "less"),
        ({"refetch_min_interval_s": 0}, "greater"),
        ({"stale_max_s": 10}, "must not be below refresh_s"),
        ({"max_lifetime_s": 0}, "greater"),
        ({"roles_from": [""]}, "at least 1"),
        ({"roles_from": ["a..b"]}, "at least 1"),
        ({"roles_from": [[]]}, "at least 1"),
        ({"claim_headers": {"authorization": "sub"}}, "meaning of its own"),
        ({"audience": "x"}, "Extra"),
    ],
    ids=str,
)
def test_bad_ones(changed: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        settings(**changed)


def test_the_secret_is_never_shown() -> None:
    made = settings(algorithms=["HS256"], secret=SECRET)
    assert SECRET not in repr(made) + str(made) + made.model_dump_json()
    with pytest.raises(ValidationError) as caught:
        settings(algorithms=["HS256"], secret="-----BEGIN PUBLIC KEY----- hush")
    assert "hush" not in "".join(error["msg"] for error in caught.value.errors())


def test_credentials_of_a_url_are_never_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        settings(jwks={"url": "https://user:hush@keys.example/k"})
    assert "hush" not in "".join(error["msg"] for error in caught.value.errors())


def test_an_inline_key_that_can_not_be_used_is_an_error() -> None:
    good, bad = jwk("RS256"), jwk("RS256", "k2", use="enc")
    with pytest.raises(KeySetError, match=r"issuers\.main\.jwks\.keys: key 1 .*'enc', not 'sig'"):
        open_issuer("main", issuer_settings(jwks={"keys": [good, bad]}), registry=Registry())
    with pytest.raises(KeySetError, match="no usable key"):
        open_issuer("main", issuer_settings(jwks={"keys": [bad]}), registry=Registry())


@pytest.mark.parametrize(
    "changed",
    [
        {"issuers": []},
        {"issuers": ["main"], "realm": 'a"b'},
        {"issuers": ["main"], "realm": "a\r\n"},
        {"issuers": [""]},
    ],
)
def test_bad_token_policies(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(changed)


def test_tokens_are_verified_again_after_five_minutes_at_latest() -> None:
    with pytest.raises(ValidationError):
        TokenSettings(cache_s=301)
