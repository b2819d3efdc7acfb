"""Moments as operators read them."""

from datetime import UTC, datetime


def moment(wall_s: float | None) -> str | None:
    """Seconds since the Unix epoch as RFC 3339 in UTC, None where there is no moment."""
    if not wall_s:
        return None
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
