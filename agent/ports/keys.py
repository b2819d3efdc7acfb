"""The token port: what judging a token needs to know of its issuer, without any I/O.

The policy reads keys that are already here. Where they aren't, the issuer says whether fetching them now makes sense.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from agent.core.errors import OutriggerError
from agent.core.identity import Identity
from agent.ports.policy import Fact


class TokenError(OutriggerError):
    """The token is not acceptable. `str(error)` says exactly why and is for logs only, never for the client."""

    status: ClassVar[int] = 401
    code: ClassVar[str] = "token_invalid"


class TokenExpiredError(TokenError):
    """The token was good; its time has passed."""

    code = "token_expired"


class Key(ABC):
    """One key for exactly one algorithm, so that no token can choose how a key is used (RFC 8725, section 3.1)."""

    __slots__ = ()

    @abstractmethod
    def verify(self, signed: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `signed`. False for any bytes that aren't; raises nothing."""


class KeySource(ABC):
    """The keys of one issuer.

    - `lookup` is pure and O(1), and never answers a key for another algorithm than the one asked for.
    - `generation` changes whenever a key goes or changes, and not when one is added.
    - Where `available` is false, `lookup` answers None for everything.
    - After the fact that `need` answered, asking again with the same `kid` answers None until the minimum interval
      has passed; so a caller that waits for one fact and asks again can't loop.
    """

    __slots__ = ()

    generation: int
    """Whoever caches what a key has verified drops it when this number is another one."""
    since: float
    """Seconds since the Unix epoch at which `available` became what it is."""

    @property
    @abstractmethod
    def available(self) -> bool:
        """Whether there are keys that may still be used."""

    @abstractmethod
    def lookup(self, kid: str | None, alg: str) -> Key | None:
        """The one key that this identifier and algorithm mean; None where there is none or more than one.

        Without a `kid` it is the issuer's only key for the algorithm.
        """

    @property
    def identifiers(self) -> frozenset[str | None]:
        """The `kid` of every key that may be used, for explanations; empty where they aren't known."""
        return frozenset()

    @abstractmethod
    def need(self, kid: str | None) -> Fact | None:
        """What to wait for before asking again, or None where asking again is pointless. Changes nothing."""


class TokenIssuer(ABC):
    """One trusted issuer: its keys, the algorithms it may use, and its rules about claims."""

    __slots__ = ()

    name: str
    """As configured; what metrics, logs and `Identity.issuer` say."""
    issuer: str
    """The exact `iss` of its tokens."""
    algorithms: frozenset[str]
    keys: KeySource

    @abstractmethod
    def accepts_typ(self, typ: str | None) -> bool:
        """Whether the header's `typ` is one of an access token of this issuer (RFC 8725, section 3.11)."""

    @abstractmethod
    def identify(self, claims: Mapping[str, Any], *, now: float, wall: float) -> Identity:
        """Judge the claims of a token whose signature is verified, and say who it is.

        `now` is monotonic, `wall` seconds since the epoch. Raises `TokenError` or `TokenExpiredError`.
        """
