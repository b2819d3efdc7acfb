"""Claims of a verified token → who is calling (RFC 7519, section 4; RFC 8725): pure, and strict about every type."""

import math
from collections.abc import Mapping
from typing import Any

from agent.core.identity import Identity
from agent.identity.headers import encode, header_lines
from agent.identity.settings import IssuerSettings
from agent.ports.keys import TokenError, TokenExpiredError

MAX_DATE = 253_402_300_799.0
"""End of the year 9999. Above it are milliseconds that someone took for seconds."""

_MISSING = object()


class ClaimRules:
    """One issuer's rules about claims, prepared once."""

    __slots__ = ("_audiences", "_headers", "_issuer", "_name", "_settings")

    def __init__(self, name: str, settings: IssuerSettings) -> None:
        self._name = name
        self._issuer = settings.issuer
        self._audiences = frozenset(settings.audiences)
        self._headers = tuple(settings.claim_headers.items())
        self._settings = settings

    def identify(self, claims: Mapping[str, Any], *, now: float, wall: float) -> Identity:
        """Judge all claims and say who it is. Raises `TokenError`, `TokenExpiredError`."""
        settings = self._settings
        if claims.get("iss") != self._issuer:
            raise TokenError(f"'iss' is not {self._issuer!r}")
        self._check_audience(claims.get("aud", _MISSING))
        if "cnf" in claims and not settings.accept_bound_tokens:
            raise TokenError("the token is bound to a client's key ('cnf'), which is not checked here")
        _optional_text(claims, "jti")
        end = self._check_times(claims, wall)
        subject = _required(claims, settings.subject_from, "subject_from")
        tenant = _required(claims, settings.tenant_from, "tenant_from") if settings.tenant_from else ""
        roles = frozenset(role for path in settings.roles_from for role in _texts(claims, path, split=False))
        scopes = frozenset(scope for path in settings.scopes_from for scope in _texts(claims, path, split=True))
        return Identity(
            subject,
            self._name,
            claims,
            tenant=tenant,
            roles=roles,
            scopes=scopes,
            expires_at=now + (end - wall),
            headers=self._lines(claims, (subject, tenant), roles, scopes),
        )

    def _check_audience(self, value: object) -> None:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise TokenError("'aud' is missing, or no string and no list of strings")
        if self._audiences.isdisjoint(names):
            raise TokenError(f"'aud' {ascii(names)[:200]} has none of {sorted(self._audiences)}")

    def _check_times(self, claims: Mapping[str, Any], wall: float) -> float:
        """Judge exp, nbf and iat. Returns the moment (wall clock, leeway included) from which the token is refused."""
        settings = self._settings
        leeway = settings.leeway_s
        exp, nbf, iat = _date(claims, "exp"), _date(claims, "nbf"), _date(claims, "iat")
        if exp is None and settings.require_exp:
            raise TokenError("'exp' is missing; an issuer with require_exp: false may leave it out")
        if nbf is not None and wall < nbf - leeway:
            raise TokenError(f"'nbf': not valid for another {nbf - wall:.0f} s")
        if iat is not None and wall < iat - leeway:
            raise TokenError(f"'iat': issued {iat - wall:.0f} s in the future")
        end = math.inf if exp is None else exp
        if settings.max_lifetime_s is not None:
            if iat is None:
                raise TokenError("'iat' is missing, so max_lifetime_s can't be judged")
            if exp is not None and exp - iat > settings.max_lifetime_s:
                raise TokenError(f"lives {exp - iat:.0f} s, longer than max_lifetime_s {settings.max_lifetime_s:g}")
            end = min(end, iat + settings.max_lifetime_s)
        end += leeway
        if wall >= end:
            raise TokenExpiredError(f"expired {wall - end + leeway:.0f} s ago")
        return end

    def _lines(
        self, claims: Mapping[str, Any], who: tuple[str, str], roles: frozenset[str], scopes: frozenset[str]
    ) -> bytes:
        return header_lines(
            [
                ("x-outrigger-subject", encode(who[0])),
                ("x-outrigger-issuer", encode(self._name)),
                ("x-outrigger-tenant", encode(who[1])),
                ("x-outrigger-roles", ",".join(map(encode, sorted(roles)))),
                ("x-outrigger-scopes", " ".join(map(encode, sorted(scopes)))),
                *((name, _header_value(claims, path)) for name, path in self._headers),
            ]
        )


def resolve(claims: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The claim at the end of the path, None where a step is missing."""
    node: Any = claims
    for name in path:
        if not isinstance(node, dict):
            return None
        node = node.get(name)
    return node


def _date(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519, section 2): any JSON number; `true` and numbers as text are not."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_DATE:
        raise TokenError(f"{name!r} is no date in seconds since 1970")
    return float(value)


def _optional_text(claims: Mapping[str, Any], name: str) -> None:
    if name in claims and not isinstance(claims[name], str):
        raise TokenError(f"{name!r} is no string")


def _required(claims: Mapping[str, Any], path: tuple[str, ...], setting: str) -> str:
    value = resolve(claims, path)
    if not isinstance(value, str) or not value:
        raise TokenError(f"the claim {'.'.join(path)!r} ({setting}) is missing or no string")
    return value


def _texts(claims: Mapping[str, Any], path: tuple[str, ...], *, split: bool) -> list[str]:
    value = resolve(claims, path)
    if value is None:
        return []
    if isinstance(value, str):
        return [text for text in value.split(" ") if text] if split else [value] if value else []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TokenError(f"the claim {'.'.join(path)!r} is no string and no list of strings")
    return [text for text in value if text]


def _header_value(claims: Mapping[str, Any], path: tuple[str, ...]) -> str:
    value = resolve(claims, path)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return encode(str(value))
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(map(encode, value))
    raise TokenError(
        f"the claim {'.'.join(path)!r} has no form for a header: it is no string, number or list of strings"
    )
