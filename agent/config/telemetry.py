"""Settings of what the sidecar tells about itself: traces, metrics, logs."""

from typing import Annotated, Literal

from pydantic import Field

from agent.core.settings import Settings


class TracesSettings(Settings):
    """Trace context (W3C): continued where a caller sent one, begun where none did."""

    sample_ratio: float = Field(default=0.1, ge=0, le=1)
    """Part of the traces begun here that are marked as sampled, 0 to 1."""
    trust_incoming: bool = True
    """Whether a caller's sampling flag counts. `false` decides anew by `sample_ratio`, within the same trace."""


class MetricsSettings(Settings):
    """Metrics on the admin address, as Prometheus text and OpenMetrics."""

    max_series: int = Field(default=5000, ge=100, le=1_000_000)
    """Most series in each worker; beyond it new label values are counted together as `__overflow__`."""


class LogsSettings(Settings):
    """The access log and the sidecar's own log, both on standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity of the sidecar's own log; can be changed while running on the admin address."""
    format: Literal["json"] = "json"
    """How lines are written: one JSON object each."""
    access: bool = True
    """Write one line per request. A route switches its own off with `access_log: false`."""
    mask: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Names of fields whose values are logged as `***`, besides the usual ones (token, password, authorization, …)."""
    buffer: int = Field(default=8192, ge=16, le=1_000_000)
    """Access-log records that may wait to be written, in each worker; beyond it records are dropped and counted."""


class TelemetrySettings(Settings):
    """What the sidecar tells about itself."""

    traces: TracesSettings = TracesSettings()
    """Trace context and sampling."""
    metrics: MetricsSettings = MetricsSettings()
    """Metrics."""
    logs: LogsSettings = LogsSettings()
    """Access log and the sidecar's own log."""
