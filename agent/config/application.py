"""Settings of the service and of the application that the sidecar stands in front of."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from agent.core.settings import Settings
from agent.policies import concurrency
from agent.runtime.settings import AppHealthSettings
from agent.traffic.upstream_settings import PoolSettings, TargetText, UpstreamTlsSettings


def _health(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is no path: it begins with a slash, as in /healthz")
    if any(not 32 < ord(character) < 127 for character in path):
        raise ValueError(f"{path!r}: blanks, control characters and non-ASCII must be percent-encoded")
    return path


class ServiceSettings(Settings):
    """Who this is: stands in logs, metrics and traces."""

    name: str = Field(default="app", min_length=1, max_length=128)
    """Name of the service."""
    version: str = ""
    """Version of the application."""
    environment: str = ""
    """Where it runs, for example `production`."""


class HoldSettings(Settings):
    """Requests that arrive while the application restarts wait for it instead of being refused."""

    max_requests: int = Field(default=256, ge=0, le=100_000)
    """Most requests that wait; beyond it they are refused with 503. 0 holds none."""
    max_wait_s: float = Field(default=10, gt=0, le=600)
    """Longest wait in seconds, within the route's `timeout_s`."""


class AppSettings(Settings):
    """The application: where it listens and what it can bear."""

    url: TargetText
    """Where it listens: `http://HOST:PORT`, `https://HOST` or `unix:/PATH`."""
    health: Annotated[str, AfterValidator(_health)] | None = None
    """Path that answers 2xx when the application is ready, as in `/healthz`. Left out: always ready."""
    health_check: AppHealthSettings = AppHealthSettings()
    """How `health` is asked, and what its answers mean."""
    max_concurrency: int = Field(default=256, ge=0)
    """Most requests that it works on at the same time, over all workers; others wait in a queue. 0 for no limit."""
    max_queue: int = Field(default=128, ge=0)
    """Requests that may wait for their turn, in each worker; beyond it they are refused with 503."""
    queue_timeout_s: float = Field(default=1, gt=0, le=300)
    """Seconds that a request may wait for its turn; then it is refused with 503."""
    pool: PoolSettings = PoolSettings()
    """Connections to it."""
    tls: UpstreamTlsSettings | None = None
    """How to speak TLS to it, where `url` begins with `https://`."""
    hold: HoldSettings = HoldSettings()
    """What happens to requests while the application restarts."""

    @model_validator(mode="after")
    def _tls_fits(self) -> "AppSettings":
        if self.tls is not None and not self.url.startswith("https://"):
            raise ValueError("tls does nothing, since url doesn't begin with https://")
        return self

    @property
    def concurrency(self) -> concurrency.Settings | None:
        """The bound on requests in flight as its policy takes it, None where there is none."""
        if self.max_concurrency == 0:
            return None
        return concurrency.Settings(
            max_in_flight=self.max_concurrency, max_queue=self.max_queue, queue_timeout_s=self.queue_timeout_s
        )
