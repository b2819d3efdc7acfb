"""The root model: nests the settings of every module, and knows where its values came from."""

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, NamedTuple

from pydantic import Field, PrivateAttr, SecretStr

from agent.config.application import AppSettings, ServiceSettings
from agent.config.errors import Finding, Path
from agent.config.route import NAME, RouteSettings
from agent.config.telemetry import TelemetrySettings
from agent.config.upstream import UpstreamSettings
from agent.config.view import fingerprint, masked
from agent.core.settings import Settings
from agent.identity.settings import IssuerSettings
from agent.policies.jwt import TokenSettings
from agent.proxy.settings import LimitsSettings, ListenSettings
from agent.runtime.settings import LifecycleSettings, ReloadSettings, WorkerSettings
from agent.wire.forwarded import TrustedPeer


class Origin(NamedTuple):
    """Where a configuration came from."""

    file: str = ""
    warnings: tuple[Finding, ...] = ()
    secrets: Mapping[Path, str] = {}
    """Values that must not be shown, by their path."""
    sources: tuple[FilePath, ...] = ()
    """Every file that was read: the configuration and those of `${file:…}`. A change of any is a change."""


class AdminSettings(Settings):
    """Who may use the operators' endpoints."""

    token: SecretStr | None = Field(default=None, min_length=16)
    """Bearer token that all endpoints but the probes ask for, at least 16 characters. Left out: none is asked for."""


class Config(Settings):
    """The whole configuration. Every section may be left out, but something must be there to forward to."""

    service: ServiceSettings = ServiceSettings()
    """Who this is."""
    app: AppSettings | None = None
    """The application. Left out: a gateway, where every route leads to an upstream."""
    listen: ListenSettings = ListenSettings()
    """Where each surface listens."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that share the inbound address. One serves 20,000 requests/s and more; memory grows with each."""
    limits: LimitsSettings = LimitsSettings()
    """What a client may send, hold or delay."""
    trusted_proxies: tuple[TrustedPeer, ...] = ()
    """Networks whose `X-Forwarded-*` is believed, or `unix` for whoever may open our socket."""
    issuers: dict[str, IssuerSettings] = {}
    """Name → an issuer of tokens that is trusted."""
    tokens: TokenSettings = TokenSettings()
    """What holds for the tokens of all issuers."""
    routes: tuple[RouteSettings, ...] = ()
    """What happens to requests, by rule. The first route that matches wins; what none matches goes to the application:
    with a valid token where issuers are configured, else freely."""
    upstreams: dict[Annotated[str, Field(pattern=NAME)], UpstreamSettings] = {}
    """Name → a service that routes and the application may lead to. `app` is the application itself."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """What the sidecar tells about itself."""
    lifecycle: LifecycleSettings = LifecycleSettings()
    """How the process ends."""
    reload: ReloadSettings = ReloadSettings()
    """When this file is read again."""
    supervision: WorkerSettings = WorkerSettings()
    """How worker processes are restarted and asked, where `workers` is more than 1."""
    admin: AdminSettings = AdminSettings()
    """Who may use the operators' endpoints."""

    _origin: Origin = PrivateAttr(default=Origin())

    def with_origin(self, origin: Origin) -> "Config":
        """The same values, knowing where they came from."""
        config = self.model_copy()
        config._origin = origin
        return config

    @property
    def file(self) -> str:
        """The file it was read from, ``""`` where it was made otherwise."""
        return self._origin.file

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What is doubtful in it but no error."""
        return self._origin.warnings

    @property
    def sources(self) -> tuple[FilePath, ...]:
        """Every file that it was read from, secrets included: watch them all."""
        return self._origin.sources

    @property
    def files(self) -> tuple[str, ...]:
        """As `sources`, by name."""
        return tuple(map(str, self.sources))

    def view(self) -> dict[str, Any]:
        """The effective values as JSON, defaults included, secrets as ``***``."""
        return masked(self, self._origin.secrets)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that are the same for the same values, wherever they came from."""
        return fingerprint(self)
