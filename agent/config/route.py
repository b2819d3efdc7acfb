"""One route: what it matches, what it asks of callers, and where it leads."""

from typing import Literal

from pydantic import Field

from agent.core.settings import Settings
from agent.policies.authorize import Settings as AuthorizeSettings
from agent.policies.circuit_breaker import Settings as CircuitBreakerSettings
from agent.policies.concurrency import Settings as ConcurrencySettings
from agent.policies.cors import Settings as CorsSettings
from agent.policies.ip_access import Settings as IpAccessSettings
from agent.policies.jwt import Settings as JwtSettings
from agent.policies.rate_limit import Settings as RateLimitSettings
from agent.policies.retry import Settings as RetrySettings
from agent.policies.timeout import Settings as TimeoutSettings
from agent.traffic.match import MatchSettings
from agent.traffic.sticky import StickyBy
from agent.wire.rewrite import RewriteSettings

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""Names of routes and upstreams: they stand in metrics, logs and addresses."""


class AuthSettings(AuthorizeSettings):
    """Who may call the route: a valid token, and what its caller must be."""

    issuers: tuple[str, ...] = ()
    """Names of the issuers (section `issuers`) whose tokens are accepted. Empty: all that are configured."""
    optional: bool = False
    """Let requests without a token pass as anonymous. A bad token is refused all the same."""
    forward_token: bool = True
    """Whether the application gets to see the token itself, beside the identity headers."""

    @property
    def asks(self) -> bool:
        """Whether more is asked of a caller than to be known."""
        return any(
            names is not None
            for names in (self.roles.any, self.roles.all, self.roles.none, self.scopes.any, self.scopes.all)
        )

    def token_settings(self, issuers: tuple[str, ...]) -> JwtSettings:
        """The token policy's own settings. `issuers` are all that are configured."""
        return JwtSettings(
            issuers=self.issuers or issuers,
            optional=self.optional,
            forward_token=self.forward_token,
            realm=self.realm,
            mode=self.mode,
        )


class SplitSettings(Settings):
    """One part of a route's traffic."""

    upstream: str = Field(min_length=1)
    """Name of an upstream, or `app` for the application."""
    weight: int = Field(default=1, ge=0, le=1_000_000)
    """Share of the traffic, relative to the sum of all weights. 0 gets none."""


class RouteSettings(Settings):
    """What happens to the requests that one rule matches. The first route that matches wins."""

    name: str = Field(pattern=NAME)
    """Unique name, as in metrics, logs and explanations: letters, digits, `.`, `_`, `-`, at most 64."""
    match: MatchSettings = MatchSettings()
    """Which requests the route is for. Left out: all."""
    auth: Literal["none", "deny"] | AuthSettings | None = None
    """Who may call it. `none`: everybody. `deny`: nobody, they get 403 `route_denied`. Left out: any valid token where
    there are issuers, else everybody."""
    ip: IpAccessSettings | None = None
    """Client addresses that are allowed or denied."""
    cors: CorsSettings | None = None
    """Which web pages may call it from a browser; preflights are answered without a token."""
    rate_limits: tuple[RateLimitSettings, ...] = ()
    """Limits on requests over time; every one of them must allow a request."""
    concurrency: ConcurrencySettings | None = None
    """How many of its requests may be in flight, and how long others wait."""
    circuit_breaker: CircuitBreakerSettings | None = None
    """When to stop asking an application that keeps failing."""
    retry: RetrySettings | None = None
    """Whether, when and how often requests are tried again. Left out: never."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Seconds from the request to the response's head, retries included: short for `timeouts.timeout_s`."""
    timeouts: TimeoutSettings = TimeoutSettings()
    """All limits of time."""
    body_bytes: int | None = Field(default=None, ge=0)
    """Largest request body in bytes; 0 for no limit. Left out: `limits.body_bytes`."""
    upstream: str | None = Field(default=None, min_length=1)
    """Name of the upstream that it leads to. Left out: the application."""
    split: tuple[SplitSettings, ...] = ()
    """Several upstreams that share the traffic by weight, instead of `upstream`."""
    sticky_by: StickyBy | None = None
    """What keeps a caller on the same part of `split`: `subject`, `ip`, `tenant`, `header:NAME`, `cookie:NAME`,
    `claim:PATH`. Left out: each request is a new draw."""
    rewrite: RewriteSettings = RewriteSettings()
    """What is changed in its requests and responses on their way."""
    mirror: str | None = Field(default=None, min_length=1)
    """Name of an upstream that gets a copy of each request; its answers are dropped, it can fail nothing."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow`: all policies of the route decide and record, but refuse nothing. Each has a mode of its own, too."""
    access_log: bool = True
    """Write a line to the access log for each request."""

    @property
    def limits_of_time(self) -> TimeoutSettings:
        """`timeouts` with what `timeout_s` says."""
        if self.timeout_s is None:
            return self.timeouts
        return self.timeouts.model_copy(update={"timeout_s": self.timeout_s})
