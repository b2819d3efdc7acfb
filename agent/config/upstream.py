"""One upstream with the policies that hold for it."""

from typing import Literal

from pydantic import Field

from agent.policies.circuit_breaker import Settings as CircuitBreakerSettings
from agent.policies.concurrency import Settings as ConcurrencySettings
from agent.policies.retry import Settings as RetrySettings
from agent.policies.timeout import Settings as TimeoutSettings
from agent.traffic import upstream_settings


class UpstreamSettings(upstream_settings.UpstreamSettings):
    """A service that routes and the application may lead to.

    Its policies hold for what the application calls through the outbound proxy, and for routes that have none of the
    same kind themselves.
    """

    retry: RetrySettings | None = None
    """Whether, when and how often calls are tried again. Left out: never."""
    circuit_breaker: CircuitBreakerSettings | None = None
    """When to stop asking it while it keeps failing."""
    concurrency: ConcurrencySettings | None = None
    """How many calls may be in flight, and how long others wait."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Seconds to the response's head, retries included: short for `timeouts.timeout_s`."""
    timeouts: TimeoutSettings = TimeoutSettings()
    """All limits of time."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow`: its policies decide and record, but refuse nothing. Each policy has its own `mode`, too."""

    @property
    def limits_of_time(self) -> TimeoutSettings:
        """`timeouts` with what `timeout_s` and `connect_timeout_s` say."""
        short = {"timeout_s": self.timeout_s, "connect_timeout_s": self.connect_timeout_s}
        return self.timeouts.model_copy(update={name: value for name, value in short.items() if value is not None})
