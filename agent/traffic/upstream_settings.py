"""Settings of an upstream: its targets, how they are reached, and how one is picked."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from agent.core.address import parse_address
from agent.core.settings import Settings
from agent.traffic.balance import Balance
from agent.traffic.outlier import OutlierSettings
from agent.traffic.sticky import StickyBy

_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")


def _address(text: str) -> str:
    parse_address(text)
    return text


def _host(text: str) -> str:
    lower = text.lower()
    if not _HOST.fullmatch(lower):
        raise ValueError(f"{text!r} is no host name: write it without scheme and port, as in inventory.internal")
    return lower


TargetText = Annotated[str, AfterValidator(_address)]
HostName = Annotated[str, AfterValidator(_host)]


class PoolSettings(Settings):
    """Connections to one target, per worker."""

    max_connections: int = Field(default=1024, ge=1, le=1_000_000)
    """Most connections at a time; requests beyond it wait."""
    max_idle: int = Field(default=256, ge=0, le=1_000_000)
    """Most idle connections that are kept for the next requests. 0 opens one per request."""
    max_pending: int = Field(default=1024, ge=0, le=1_000_000)
    """Most requests that wait for a connection; beyond it they are refused with 503."""
    idle_timeout_s: float = Field(default=4, gt=0, le=86400)
    """Seconds that an idle connection is kept. Keep it below the target's own limit: many close after 5 s."""


class UpstreamTlsSettings(Settings):
    """How to speak TLS to `https` targets. Without this section the system's authorities are trusted."""

    ca_file: str | None = Field(default=None, min_length=1)
    """PEM file with the authorities to trust instead of the system's."""
    server_name: HostName | None = None
    """Name that the certificate must hold, sent as SNI. Left out: the target's host."""
    client_cert_file: str | None = Field(default=None, min_length=1)
    """PEM file with our certificate and its chain, for targets that ask for one."""
    client_key_file: str | None = Field(default=None, min_length=1)
    """PEM file with its private key, not encrypted."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest TLS version that is accepted."""
    verify: bool = True
    """Check the certificate. Turning it off needs `insecure_skip_verify: true` beside it."""
    insecure_skip_verify: bool = False
    """Says that everybody between here and the target may read and change everything. For tests only."""

    @model_validator(mode="after")
    def _fits_together(self) -> "UpstreamTlsSettings":
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file belong together: give both or neither")
        if not self.verify and not self.insecure_skip_verify:
            raise ValueError("verify: false makes TLS worthless; if it is meant, add insecure_skip_verify: true")
        if self.insecure_skip_verify and self.ca_file is not None:
            raise ValueError("ca_file does nothing while insecure_skip_verify is true: remove one of them")
        return self

    @property
    def verifies(self) -> bool:
        """Whether the target's certificate is checked."""
        return self.verify and not self.insecure_skip_verify

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file it names."""
        names = (self.ca_file, self.client_cert_file, self.client_key_file)
        return tuple(Path(name) for name in names if name is not None)


class UpstreamSettings(Settings):
    """A service that routes and the application may lead to."""

    targets: tuple[TargetText, ...] = Field(min_length=1)
    """Where it listens: `http://HOST:PORT`, `https://HOST` or `unix:/PATH`. A name may have several addresses."""
    balance: Balance = "p2c_ewma"
    """How a target is picked: `p2c_ewma` (the faster and freer of two), `least_requests`, `round_robin`, `sticky`."""
    sticky_by: StickyBy | None = None
    """What `balance: sticky` goes by: `subject`, `ip`, `tenant`, `header:NAME`, `cookie:NAME`, `claim:PATH`."""
    outlier: OutlierSettings = OutlierSettings()
    """When a target that keeps failing is left out for a while."""
    dns_refresh_s: float = Field(default=30, gt=0, le=86400)
    """Seconds after which names are resolved anew. Addresses that stay keep their connections and statistics."""
    connect_timeout_s: float | None = Field(default=None, gt=0, le=300)
    """Seconds to connect, TLS handshake included: short for `timeouts.connect_timeout_s`. Routes that lead here use it
    where they don't set their own."""
    pool: PoolSettings = PoolSettings()
    """Connections to each target."""
    tls: UpstreamTlsSettings | None = None
    """How to speak TLS to `https` targets."""
    hosts: tuple[HostName, ...] = ()
    """Names by which the application may address it, as `Host` or in an absolute target. Left out: its own name."""
    preserve_host: bool = False
    """Send the client's `Host` on, instead of the target's own."""

    @model_validator(mode="after")
    def _fits_together(self) -> "UpstreamSettings":
        if len({parse_address(target) for target in self.targets}) != len(self.targets):
            raise ValueError("a target is given twice: each counts once, weights belong to a route's `split`")
        if (self.balance == "sticky") != (self.sticky_by is not None):
            raise ValueError("balance: sticky and sticky_by belong together, as in sticky_by: cookie:session")
        if self.tls is not None and not any(parse_address(target).is_tls for target in self.targets):
            raise ValueError("tls does nothing, since no target begins with https://")
        return self
