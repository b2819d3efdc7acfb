"""Settings of the data path: where it listens and what a peer may send."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from agent.core.settings import Settings


class TlsSettings(Settings):
    """TLS on a listener. The files are read again when they change."""

    cert_file: str = Field(min_length=1)
    """PEM file with the certificate and the chain up to (not including) the root."""
    key_file: str = Field(min_length=1)
    """PEM file with the certificate's private key, not encrypted."""
    client_ca_file: str | None = None
    """PEM file with the authorities whose client certificates are accepted."""
    client_cert: Literal["none", "optional", "required"] = "none"
    """Whether clients are asked for a certificate. `required` refuses the handshake without a valid one."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest TLS version that is accepted."""

    @field_validator("min_version", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, float) else value

    @model_validator(mode="after")
    def _has_authorities(self) -> "TlsSettings":
        if self.client_cert != "none" and self.client_ca_file is None:
            raise ValueError(f"client_cert: {self.client_cert} needs client_ca_file, or no certificate could be judged")
        if self.client_cert == "none" and self.client_ca_file is not None:
            raise ValueError("client_ca_file does nothing while client_cert is none: write optional or required")
        return self


class SurfaceSettings(Settings):
    """Where one surface listens: a host and port, or a Unix socket."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to bind; `0.0.0.0` for all of IPv4, `::` for all of both families."""
    port: int = Field(default=0, ge=0, le=65535)
    """TCP port; 0 picks a free one, which is logged and shown on `/config`."""
    unix: str | None = None
    """Absolute path of a Unix socket, instead of host and port."""

    @model_validator(mode="after")
    def _one_place(self) -> "SurfaceSettings":
        if self.unix is not None:
            if not self.unix.startswith("/"):
                raise ValueError(f"unix: {self.unix!r} must be an absolute path, as in /run/outrigger.sock")
            if self.model_fields_set & {"host", "port"}:
                raise ValueError("a surface listens on a Unix socket or on host and port, not on both: remove one")
        return self

    @property
    def place(self) -> str:
        """As in logs: ``127.0.0.1:4500`` or ``unix:/run/outrigger.sock``."""
        if self.unix is not None:
            return f"unix:{self.unix}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class InboundSettings(SurfaceSettings):
    """The inbound proxy: what clients reach."""

    host: str = Field(default="0.0.0.0", min_length=1)  # noqa: S104  clients come from outside: that is its purpose
    """Address to bind; `0.0.0.0` for all of IPv4, `::` for all of both families."""
    port: int = Field(default=8080, ge=0, le=65535)
    """TCP port; 0 picks a free one, which is logged and shown on `/config`."""
    tls: TlsSettings | None = None
    """TLS for clients; without it the listener speaks plain HTTP."""


class LocalSettings(SurfaceSettings):
    """The local API: what the application calls."""

    port: int = Field(default=4500, ge=0, le=65535)
    """TCP port; 0 picks a free one, which is logged and shown on `/config`."""


class AdminListenSettings(SurfaceSettings):
    """The operators' endpoints: probes, metrics, configuration, explanations."""

    port: int = Field(default=4501, ge=0, le=65535)
    """TCP port; 0 picks a free one, which is logged and shown on `/config`."""


class OutboundSettings(SurfaceSettings):
    """The outbound proxy: how the application reaches `upstreams`. It listens only where there are any."""

    port: int = Field(default=4502, ge=0, le=65535)
    """TCP port; 0 picks a free one, which is logged and shown on `/config`."""


class ListenSettings(Settings):
    """Where each surface listens."""

    inbound: InboundSettings = InboundSettings()
    """The inbound proxy: clients come in here."""
    local: LocalSettings = LocalSettings()
    """The local API for the application."""
    admin: AdminListenSettings = AdminListenSettings()
    """The operators' endpoints."""
    outbound: OutboundSettings = OutboundSettings()
    """The outbound proxy for the application's own calls; only where `upstreams` are configured."""


class LimitsSettings(Settings):
    """What one peer may send, hold or delay, with safe defaults. A route may have its own `body_bytes`."""

    head_bytes: int = Field(default=32768, ge=1024, le=1048576)
    """Largest request head (request line and fields) in bytes; more is answered 431, or 414 if it is the target."""
    head_fields: int = Field(default=100, ge=8, le=10000)
    """Most header fields in a request; more is answered 431."""
    body_bytes: int = Field(default=10485760, ge=0)
    """Largest request body in bytes; more is answered 413. 0 for no limit."""
    header_timeout_s: float = Field(default=10, gt=0, le=3600)
    """Seconds from a request's first byte to the end of its head; then 408."""
    body_timeout_s: float = Field(default=30, gt=0, le=86400)
    """Seconds that a request body may pause between two pieces; then 408."""
    idle_timeout_s: float = Field(default=75, gt=0, le=86400)
    """Seconds that a client's connection may stay open without a request."""
    write_timeout_s: float = Field(default=30, gt=0, le=86400)
    """Seconds that a client may take no byte of its response; then the connection is cut."""
    connections: int = Field(default=10000, ge=1)
    """Most client connections at a time, per worker and surface; more are answered 503 and closed."""
    pipelined_bytes: int = Field(default=65536, ge=1024, le=16777216)
    """Bytes of further requests that are read ahead of the one being answered; then reading stops."""
    drain_idle_s: float = Field(default=1, gt=0, le=60)
    """Seconds that an idle connection stays open for a request that is on its way, once the sidecar drains."""
    trailers: Literal["drop", "forward"] = "drop"
    """Whether trailer fields of chunked bodies go on; fields that frame, route or authorise are refused in any case."""
    buffer_bytes: int = Field(default=65536, ge=4096, le=16777216)
    """Bytes held per direction before the faster side is paused."""
