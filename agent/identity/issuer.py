"""A trusted issuer as the data path sees it: its keys, the algorithms that are pinned, its rules about claims."""

from collections.abc import Mapping
from typing import Any

from agent.core.identity import Identity
from agent.drivers.fetch import fetch
from agent.identity.claims import ClaimRules
from agent.identity.jwk import KeySetError, key_set
from agent.identity.keystore import DEFAULT_TOOLS, FetchedKeys, FixedKeys, Tools
from agent.identity.settings import IssuerSettings
from agent.identity.signatures import HmacKey
from agent.identity.sources import Fetch, open_source
from agent.ports.keys import KeySource, TokenIssuer
from agent.telemetry.metrics import Registry

_ANY_ACCESS_TOKEN = frozenset({"jwt", "at+jwt"})
"""Other types are tokens for another purpose: logout, security events, proofs of possession."""


class Issuer(TokenIssuer):
    """One issuer, live. `start` and `stop` frame the background work where its keys have to be fetched."""

    __slots__ = ("_rules", "_types", "_without_typ", "algorithms", "issuer", "keys", "name", "settings")

    def __init__(self, name: str, settings: IssuerSettings, keys: KeySource) -> None:
        self.name = name
        self.settings = settings
        self.issuer = settings.issuer
        self.algorithms = frozenset[str](settings.algorithms)
        self.keys = keys
        self._rules = ClaimRules(name, settings)
        self._without_typ = settings.typ is None
        self._types = _ANY_ACCESS_TOKEN if settings.typ is None else frozenset({_media_type(settings.typ)})

    def accepts_typ(self, typ: str | None) -> bool:
        """As in the port. Case doesn't matter and ``application/`` may be there (RFC 7515, section 4.1.9)."""
        return self._without_typ if typ is None else _media_type(typ) in self._types

    def identify(self, claims: Mapping[str, Any], *, now: float, wall: float) -> Identity:
        """As in the port."""
        return self._rules.identify(claims, now=now, wall=wall)

    def start(self) -> None:
        """Begin to fetch keys in the background. Needs a running loop; nothing to do for fixed keys."""
        if isinstance(self.keys, FetchedKeys):
            self.keys.start()

    async def stop(self) -> None:
        """End the background work."""
        if isinstance(self.keys, FetchedKeys):
            await self.keys.stop()

    @property
    def trouble(self) -> str:
        """What is wrong with its keys at present, ``""`` where nothing is."""
        return self.keys.trouble if isinstance(self.keys, FetchedKeys) else ""


def open_issuer(
    name: str, settings: IssuerSettings, *, registry: Registry, fetch: Fetch = fetch, tools: Tools = DEFAULT_TOOLS
) -> Issuer:
    """Make an issuer of its settings. Raises `KeySetError` where inline keys can't be used.

    `fetch` and `tools` are what tests replace.
    """
    if settings.secret is not None:
        key = HmacKey(settings.secret.get_secret_value().encode())
        return Issuer(name, settings, FixedKeys({(None, "HS256"): key}, ignores_kid=True))
    if settings.jwks.keys is not None:
        try:
            found = key_set(settings.jwks.keys, settings.algorithms)
        except KeySetError as error:
            raise KeySetError(f"issuers.{name}.jwks.keys: {error}") from None
        if found.warnings:
            raise KeySetError(f"issuers.{name}.jwks.keys: " + "; ".join(found.warnings))
        return Issuer(name, settings, FixedKeys(found.keys))
    source = open_source(settings, fetch, tools.clock)
    return Issuer(name, settings, FetchedKeys(name, settings, source, registry, tools))


def _media_type(typ: str) -> str:
    return typ.lower().removeprefix("application/")
