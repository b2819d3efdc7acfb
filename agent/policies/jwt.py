"""Bearer tokens (RFC 6750): verify a JWT once, then know it by its bytes until it expires or its key goes."""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agent.core.clock import Clock
from agent.core.clock import wall as wall_clock
from agent.core.errors import OutriggerError
from agent.core.identity import Identity
from agent.core.settings import Settings as SettingsModel
from agent.ports.keys import KeySource, TokenError, TokenIssuer
from agent.ports.policy import Deny, Need, Policy, Verdict
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from agent.wire.jws import JwsHeader, decode_segment, read_header, read_payload, split_token
from agent.wire.problem import Refusal

_TAIL = 40
"""The end of a token is its signature, so 40 characters are 240 bits that nobody else's token has. Looking them up
costs a third less than hashing a kilobyte, and gives a token one entry however its scheme is written."""

_MAX_HEADERS = 64

_SCHEMES = frozenset(b"apikey aws4-hmac-sha256 basic digest dpop hawk negotiate ntlm oauth token".split())
"""Other schemes that may be named in the log. What stands in the place of one may as well be a key sent without any."""


class TokenSettings(SettingsModel):
    """What holds for tokens of all issuers on all routes."""

    max_token_bytes: int = Field(default=8192, ge=256, le=65_536)
    """Longer values of Authorization are refused unread, in bytes."""
    cache_entries: int = Field(default=4096, ge=2, le=10_000_000)
    """How many verified tokens are remembered, in each worker and for each set of issuers (about 6 KiB each)."""
    cache_s: float = Field(default=300.0, gt=0, le=300)
    """A remembered token is verified again after this time at latest, in seconds."""


class Settings(SettingsModel):
    """Who may call: whose tokens count, and whether one must be there."""

    issuers: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """Names of the issuers (section `issuers`) whose tokens are accepted."""
    optional: bool = False
    """Let requests without Authorization pass as anonymous. A bad token is refused all the same."""
    forward_token: bool = True
    """Whether the application gets to see the token itself, beside the identity headers."""
    realm: str = Field(default="outrigger", pattern=r"^[A-Za-z0-9 ._:/-]{1,64}$")
    """What `WWW-Authenticate` calls the protected space."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow` decides and records, but never refuses."""


class TokenMissingError(OutriggerError):
    """There is no bearer token."""

    status = 401
    code = "token_missing"


class KeysUnavailableError(OutriggerError):
    """The issuer's keys aren't there, so nothing can be judged."""

    status = 503
    code = "keys_unavailable"


class Verified:
    """A token that was found good, and until when that may be relied on."""

    __slots__ = ("generation", "identity", "keys", "until", "value")

    def __init__(self, value: bytes, identity: Identity, keys: KeySource, until: float) -> None:
        self.value = value
        self.identity = identity
        self.keys = keys
        self.generation = keys.generation
        self.until = until

    def holds(self, now: float) -> bool:
        """Whether it isn't too old and no key of its issuer has gone or changed since."""
        return self.until > now and self.generation == self.keys.generation


class Tokens:
    """Verifies the tokens of one set of issuers and remembers the good ones. Routes with the same set share it."""

    __slots__ = ("_half", "_headers", "_issuers", "_old", "_settings", "_wall", "young")

    def __init__(
        self, issuers: Iterable[TokenIssuer], settings: TokenSettings | None = None, *, wall: Clock = wall_clock
    ) -> None:
        """Raises ValueError where two issuers have the same `iss`: no token would say which one it means."""
        self._issuers: dict[str, TokenIssuer] = {}
        for issuer in issuers:
            other = self._issuers.setdefault(issuer.issuer, issuer)
            if other is not issuer:
                raise ValueError(
                    f"issuers {other.name} and {issuer.name} are both {issuer.issuer!r}: a route takes one"
                )
        self._settings = settings or TokenSettings()
        self._wall = wall
        # Two generations instead of an ordered dict: a hit changes nothing, and forgetting is dropping one dict.
        self.young: dict[bytes, Verified] = {}
        self._old: dict[bytes, Verified] = {}
        self._half = self._settings.cache_entries // 2
        self._headers: dict[bytes, JwsHeader] = {}

    def peek(self, value: bytes, now: float) -> Verified | None:
        """What is remembered of this value and still holds."""
        tail = value[-_TAIL:]
        for entry in (self.young.get(tail), self._old.get(tail)):
            if entry is not None and entry.value == value and entry.holds(now):
                return entry
        return None

    def recall(self, value: bytes, now: float) -> Identity | None:
        """Who sent this value, where that is remembered. It then stays so for another generation."""
        entry = self.peek(value, now)
        if entry is None:
            return None
        self._remember(entry)
        return entry.identity

    def verify(self, value: bytes, now: float) -> Identity | Need:
        """Judge and remember. Raises an `OutriggerError` whose `code` is the refusal's."""
        verdict = self.judge(value, now)
        if isinstance(verdict, Need):
            return verdict
        self._remember(verdict)
        return verdict.identity

    def judge(self, value: bytes, now: float) -> Verified | Need:
        """What the value of Authorization is worth; remembers nothing that it proves. Raises an `OutriggerError`."""
        jws = split_token(self._bearer(value))
        header = self._headers.get(jws.header) or read_header(jws.header)
        claims = read_payload(jws.payload)
        signature = decode_segment(jws.signature, "signature")
        issuer = self._issuer(claims.get("iss"))
        if header.alg not in issuer.algorithms:
            raise TokenError(f"alg {ascii(header.alg)[:40]} is not one of {sorted(issuer.algorithms)} of {issuer.name}")
        if not issuer.accepts_typ(header.typ):
            raise TokenError(f"typ {ascii(header.typ)[:80]} is no access token of issuer {issuer.name}")
        key = issuer.keys.lookup(header.kid, header.alg)
        if key is None:
            return self._without_key(issuer, header)
        if not key.verify(jws.signed, signature):
            raise TokenError(f"the signature is not one of issuer {issuer.name}'s key {ascii(header.kid)[:80]}")
        identity = issuer.identify(claims, now=now, wall=self._wall())
        self._keep_header(jws.header, header)
        return Verified(value, identity, issuer.keys, min(identity.expires_at, now + self._settings.cache_s))

    def time_left(self, who: Identity) -> str:
        """How long the token itself still says that it is good: what leeway adds is no promise."""
        end = who.claims.get("exp")
        if not isinstance(end, int | float):
            return "without an end"
        left_s = end - self._wall()
        return f"valid for another {left_s:.0f} s" if left_s >= 0 else f"expired {-left_s:.0f} s ago, within leeway_s"

    def _bearer(self, value: bytes) -> bytes:
        """The token in ``Bearer TOKEN`` (RFC 6750, section 2.1), and nothing else."""
        scheme, _, rest = value.partition(b" ")
        if scheme.lower() != b"bearer":
            named = scheme.decode() if rest and scheme.lower() in _SCHEMES else "that is unknown here"
            raise TokenMissingError(f"Authorization has a scheme other than Bearer: {named}")
        if len(value) > self._settings.max_token_bytes:
            raise TokenError(f"the token is longer than max_token_bytes ({self._settings.max_token_bytes})")
        token = rest.lstrip(b" ")
        if not token:
            raise TokenError("there is nothing after 'Bearer'")
        if b"," in token or b" " in token:
            raise TokenError("Authorization holds more than one credential")
        return token

    def _issuer(self, iss: object) -> TokenIssuer:
        issuer = self._issuers.get(iss) if isinstance(iss, str) else None
        if issuer is None:
            raise TokenError(f"'iss' {ascii(iss)[:200]} is none of {sorted(self._issuers)}")
        return issuer

    def _without_key(self, issuer: TokenIssuer, header: JwsHeader) -> Need:
        fact = issuer.keys.need(header.kid)
        if fact is not None:
            return Need(fact)
        if not issuer.keys.available:
            raise KeysUnavailableError(
                f"issuer {issuer.name} has no keys that may be used; see outrigger_jwks_age_seconds"
            )
        known = sorted(kid for kid in issuer.keys.identifiers if kid is not None)
        if header.kid is not None and known and header.kid not in known:
            there_are = ", ".join(ascii(kid)[:80] for kid in known[:8]) + ", …" * (len(known) > 8)
            raise TokenError(f"issuer {issuer.name} has no key {ascii(header.kid)[:80]}; there are: {there_are}")
        kid = f"kid {ascii(header.kid)[:80]}" if header.kid is not None else "no kid"
        raise TokenError(f"issuer {issuer.name} has not exactly one {header.alg} key for a token with {kid}")

    def _keep_header(self, segment: bytes, header: JwsHeader) -> None:
        """All tokens of a key begin alike. Only of verified tokens, so that nobody else can fill the table."""
        if segment not in self._headers:
            if len(self._headers) >= _MAX_HEADERS:
                self._headers.clear()
            self._headers[segment] = header

    def _remember(self, entry: Verified) -> None:
        if len(self.young) >= self._half and entry.value[-_TAIL:] not in self.young:
            self._old, self.young = self.young, {}
        self.young[entry.value[-_TAIL:]] = entry


class Jwt(Policy):
    """Says who is calling, or refuses: `token_missing`, `token_invalid`, `token_expired` (401), `keys_unavailable`."""

    __slots__ = ("_hits", "_misses", "_missing", "_optional", "_refusals", "_tokens", "forward_token")

    name: ClassVar[str] = "jwt"

    def __init__(self, settings: Settings, *, route: str, registry: Registry, tokens: Tokens) -> None:
        self._tokens = tokens
        self._optional = settings.optional
        self.forward_token = settings.forward_token
        self._refusals = _refusals(settings.realm)
        self._missing = Deny(self._refusals["token_missing"], why="there is no Authorization")
        results = registry.counter(
            "outrigger_token_cache_total", "Look-ups of tokens among the verified ones.", ("route", "result")
        )
        self._hits, self._misses = results.at(route, "hit"), results.at(route, "miss")

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """Authenticate. Sets `head.identity` and adds the identity headers to what the application gets."""
        value = head.fields.get(b"authorization")
        if value is None:
            return None if self._optional else self._missing
        entry = self._tokens.young.get(value[-40:])
        # `entry.holds` written out: the call would cost as much as the rest.
        if (
            entry is not None
            and entry.until > now
            and entry.generation == entry.keys.generation
            and entry.value == value
        ):
            self._hits[0] += 1
            identity = entry.identity
            head.identity = identity
            head.request_extra += identity.headers
            return None
        return self._look_closer(head, value, now)

    def _look_closer(self, head: RequestHead, value: bytes, now: float) -> Verdict:
        identity = self._tokens.recall(value, now)
        if identity is not None:
            self._hits[0] += 1
        else:
            self._misses[0] += 1
            try:
                verdict = self._tokens.verify(value, now)
            except OutriggerError as error:
                return Deny(self._refusals[error.code], why=str(error))
            if isinstance(verdict, Need):
                return verdict
            identity = verdict
        head.identity = identity
        head.request_extra += identity.headers
        return None

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """Whose token it is, or exactly why it is refused."""
        value = head.fields.get(b"authorization")
        if value is None:
            return ("allow", "no token was sent, and it is optional") if self._optional else ("deny", self._missing.why)
        try:
            verdict = self._tokens.peek(value, now) or self._tokens.judge(value, now)
        except OutriggerError as error:
            return "deny", f"{error.code}: {error}"
        if isinstance(verdict, Need):
            return "need", "the issuer's keys have to be fetched first"
        who = verdict.identity
        return "allow", (
            f"subject {who.subject!r} of issuer {who.issuer}, tenant {who.tenant!r}, roles {sorted(who.roles)}, "
            f"scopes {sorted(who.scopes)}, {self._tokens.time_left(who)}"
        )


def _refusals(realm: str) -> dict[str, Refusal]:
    """The prebuilt answers by code (RFC 6750, section 3): the client learns the kind of error and no detail."""
    challenge = f'www-authenticate: Bearer realm="{realm}"'
    invalid = f'{challenge}, error="invalid_token", error_description="'
    return {
        "token_missing": Refusal("token_missing", lines=f"{challenge}\r\n".encode()),
        "token_invalid": Refusal("token_invalid", lines=f'{invalid}The access token is not acceptable"\r\n'.encode()),
        "token_expired": Refusal("token_expired", lines=f'{invalid}The access token expired"\r\n'.encode()),
        "keys_unavailable": Refusal("keys_unavailable", lines=b"retry-after: 5\r\n"),
    }
