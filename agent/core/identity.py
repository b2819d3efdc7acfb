"""Who is calling: the one value that authentication hands to everything after it."""

from collections.abc import Mapping
from typing import Any


class Identity:
    """A verified caller. Made once per token and shared by every request that carries it, so never mutated.

    `expires_at` is in monotonic seconds (`agent.core.clock.monotonic`); `claims` is the token's verified payload.
    """

    __slots__ = ("claims", "expires_at", "headers", "issuer", "roles", "scopes", "subject", "tenant")

    def __init__(  # noqa: PLR0913  a value with names for all its parts
        self,
        subject: str,
        issuer: str,
        claims: Mapping[str, Any],
        *,
        tenant: str = "",
        roles: frozenset[str] = frozenset(),
        scopes: frozenset[str] = frozenset(),
        expires_at: float = float("inf"),
        headers: bytes = b"",
    ) -> None:
        self.subject = subject
        """The `sub` claim (RFC 7519, section 4.1.2)."""
        self.issuer = issuer
        """The configured name of the issuer, not its URL."""
        self.claims = claims
        self.tenant = tenant
        self.roles = roles
        self.scopes = scopes
        self.expires_at = expires_at
        self.headers = headers
        """Identity header lines for the application, ready to send: each `name: value` CRLF."""
