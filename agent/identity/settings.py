"""What a configuration says about the issuers of tokens (section `issuers`)."""

import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, WithJsonSchema, field_validator, model_validator

from agent.core.settings import Settings
from agent.identity.headers import check_claim_header

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256"
]  # fmt: skip
"""Every signature algorithm that can be configured (RFC 7518, RFC 8037). There is no "none"."""

MIN_SECRET_BYTES = 32
"""HS256 needs a key at least as long as its hash (RFC 7518, section 3.2)."""


def _claim_path(value: Any) -> Any:
    return tuple(value.split(".")) if isinstance(value, str) else value


ClaimPath = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=1),
    BeforeValidator(_claim_path),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    ),
]
"""Where a claim is: ``realm_access.roles``; where a name has dots, a list: ``[resource_access, my.client, roles]``."""


def is_loopback(host: str) -> bool:
    """Whether the host is this machine by name or address, so that plain HTTP to it can't be tampered with."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(url: str, *, allow_plain_http: bool) -> SplitResult:
    """Refuse what keys must not be fetched from. Raises ValueError with the remedy."""
    if any(ord(char) <= 32 or ord(char) >= 127 for char in url):
        raise ValueError(f"{url!r}: blanks, control characters and non-ASCII must be percent-encoded")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL to fetch keys from: write https://HOST/PATH")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError(f"{parts.hostname}: no credentials and no fragment in the URL of an issuer or its keys")
    if parts.port == 0:
        raise ValueError(f"{url!r}: port 0 can't be connected to")
    if parts.scheme == "http" and not allow_plain_http and not is_loopback(parts.hostname):
        raise ValueError(
            f"{url!r}: whoever can change plain HTTP on its way can sign tokens; use https, or set "
            "jwks.allow_plain_http where the network itself is trusted"
        )
    return parts


class JwksSettings(Settings):
    """Where an issuer's public keys come from. With none of `url`, `file` and `keys`, OIDC discovery finds them."""

    url: str | None = None
    """Address of the JWK Set (RFC 7517)."""
    file: str | None = Field(default=None, min_length=1)
    """File with a JWK Set, read again when it changes."""
    keys: tuple[dict[str, Any], ...] | None = Field(default=None, min_length=1)
    """Public keys written here, each a JWK."""
    allow_plain_http: bool = False
    """Fetch over plain HTTP from other hosts than this one. Whoever can change that traffic can sign tokens."""

    @model_validator(mode="after")
    def _one_source(self) -> "JwksSettings":
        if sum(source is not None for source in (self.url, self.file, self.keys)) > 1:
            raise ValueError("url, file and keys exclude each other: name one source, or none for OIDC discovery")
        if self.url is not None:
            check_url(self.url, allow_plain_http=self.allow_plain_http)
        return self


class IssuerSettings(Settings):
    """One trusted issuer of tokens: who it is, how its keys are had, and which of its tokens are for us."""

    issuer: str = Field(min_length=1, max_length=2048)
    """The exact `iss` of its tokens; with OIDC discovery also the URL to start from."""
    jwks: JwksSettings = JwksSettings()
    """Where its public keys come from."""
    secret: SecretStr | None = None
    """Shared secret for HS256, at least 32 bytes, taken as UTF-8 text. Replaces `jwks`."""
    audiences: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """A token must be meant for one of these (`aud`)."""
    algorithms: tuple[Algorithm, ...] = Field(default=("RS256",), min_length=1)
    """Signature algorithms that are accepted; a token can't choose any other."""
    typ: str | None = Field(default=None, min_length=1, max_length=64)
    """Required `typ` of the header, for example `at+jwt`. Unset accepts none, `JWT` and `at+jwt`."""
    subject_from: ClaimPath = ("sub",)
    """Claim that says who the caller is. It must be there."""
    tenant_from: ClaimPath | None = None
    """Claim that says which tenant the caller belongs to. Where configured it must be there."""
    roles_from: tuple[ClaimPath, ...] = ()
    """Claims that hold roles (a string is one role, a list many); all that are there are merged."""
    scopes_from: tuple[ClaimPath, ...] = (("scope",),)
    """Claims that hold scopes, delimited by spaces or as a list."""
    claim_headers: dict[str, ClaimPath] = {}
    """Further headers to the application: name → claim, for example `x-email: email`. Clients can't send them."""
    leeway_s: float = Field(default=30.0, ge=0, le=600)
    """Difference of clocks that is forgiven, in seconds."""
    require_exp: bool = True
    """Refuse tokens without an end."""
    max_lifetime_s: float | None = Field(default=None, gt=0)
    """Longest accepted time from `iat` to `exp`, in seconds; tokens without `iat` are refused then."""
    accept_bound_tokens: bool = False
    """Accept tokens that are bound to a client's key (`cnf`, RFC 9449 and 8705) as if they were not: the binding is not
    checked here."""
    refresh_s: float = Field(default=300.0, ge=1)
    """Seconds between two fetches of the keys, less up to a fifth so that replicas don't ask together."""
    refetch_min_interval_s: float = Field(default=10.0, ge=1)
    """Least seconds between a fetch and one that an unknown key identifier causes."""
    stale_max_s: float = Field(default=86_400.0, ge=1)
    """How long the last good keys are used while new ones can't be had, in seconds."""
    timeout_s: float = Field(default=5.0, gt=0, le=120)
    """Time for one whole call to the issuer, in seconds."""
    ca_file: str | None = Field(default=None, min_length=1)
    """PEM file of the only authorities that may vouch for the issuer's TLS certificate. Unset: the system's."""

    @field_validator("claim_headers")
    @classmethod
    def _claim_headers(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            check_claim_header(name)
        return value

    @field_validator("issuer")
    @classmethod
    def _issuer(cls, value: str) -> str:
        if "{" in value or "}" in value:
            raise ValueError(f"{value!r}: templates are not supported; write one issuer for each realm")
        return value

    @model_validator(mode="after")
    def _keys_fit(self) -> "IssuerSettings":
        if self.stale_max_s < self.refresh_s:
            raise ValueError(f"stale_max_s ({self.stale_max_s:g}) must not be below refresh_s ({self.refresh_s:g})")
        if self.secret is not None or "HS256" in self.algorithms:
            _check_secret(self)
        elif self.jwks.url is None and self.jwks.file is None and self.jwks.keys is None:
            parts = check_url(self.issuer, allow_plain_http=self.jwks.allow_plain_http)
            if parts.query:
                raise ValueError(f"{self.issuer!r}: OIDC discovery needs an issuer without a query; set jwks.url")
        return self


def _check_secret(settings: IssuerSettings) -> None:
    if settings.secret is None:
        raise ValueError("HS256 needs `secret`: a key set never brings a shared secret")
    if settings.algorithms != ("HS256",):
        raise ValueError("`secret` goes with algorithms: [HS256] alone; use a second issuer for public keys")
    if settings.jwks != JwksSettings():
        raise ValueError("`secret` and `jwks` exclude each other")
    text = settings.secret.get_secret_value()
    if len(text.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"`secret` is shorter than {MIN_SECRET_BYTES} bytes: HS256 could be guessed (RFC 7518, 3.2)")
    if re.search(r"-----BEGIN|\"kty\"|ssh-(rsa|ed25519) ", text):
        raise ValueError(
            "`secret` is a public or private key: put public keys under `jwks`, HS256 needs a random secret"
        )
