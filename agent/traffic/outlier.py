"""Endpoints that keep failing are left out for a while, longer each time, but never more than the floor allows."""

from collections.abc import Sequence

from pydantic import Field

from agent.core.settings import Settings
from agent.traffic.balance import Endpoint


class OutlierSettings(Settings):
    """When to leave a target out. The names are Envoy's."""

    consecutive_5xx: int = Field(default=5, ge=0, le=1_000_000)
    """Failures in a row (5xx, no connection, no answer) after which a target is ejected. 0: never for that."""
    consecutive_gateway_failure: int = Field(default=0, ge=0, le=1_000_000)
    """The same, counting only 502, 503, 504 and missing answers. 0: never for that."""
    interval_s: float = Field(default=10, gt=0, le=86400)
    """Seconds back in service that take one earlier ejection off the reckoning."""
    base_ejection_s: float = Field(default=30, gt=0, le=86400)
    """Seconds of the first ejection; each further one in a row lasts so much longer."""
    max_ejection_s: float = Field(default=300, gt=0, le=86400)
    """Longest ejection in seconds."""
    max_ejection_percent: int = Field(default=50, ge=0, le=100)
    """Most targets that are out at the same time, in percent. One always stays, whatever this says; 0 ejects none."""


class OutlierDetection:
    """Ejects endpoints of one upstream. They come back by themselves when their time is over."""

    __slots__ = ("_endpoints", "_settings")

    def __init__(self, settings: OutlierSettings, endpoints: Sequence[Endpoint]) -> None:
        self._settings = settings
        self._endpoints = endpoints

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        """Take a new set of endpoints, after names were resolved anew."""
        self._endpoints = endpoints

    def record(self, endpoint: Endpoint, ok: bool, now: float, *, gateway: bool = False) -> bool:
        """Count an answer; True if that ejected the endpoint.

        `gateway` tells that a failure was a 502, 503, 504 or a missing answer.
        """
        if ok:
            endpoint.consecutive_5xx = endpoint.consecutive_gateway_failures = 0
            return False
        settings = self._settings
        endpoint.consecutive_5xx += 1
        endpoint.consecutive_gateway_failures = endpoint.consecutive_gateway_failures + 1 if gateway else 0
        if endpoint.ejected_until > now:
            return False  # the last answers of before, or all are out and used all the same
        if not (
            0 < settings.consecutive_5xx <= endpoint.consecutive_5xx
            or 0 < settings.consecutive_gateway_failure <= endpoint.consecutive_gateway_failures
        ):
            return False
        if not self._may_eject_another(now):
            return False
        self._eject(endpoint, now)
        return True

    def ejected(self, now: float) -> int:
        """How many endpoints are out now."""
        return sum(endpoint.ejected_until > now for endpoint in self._endpoints)

    def _may_eject_another(self, now: float) -> bool:
        count = len(self._endpoints)
        out = self.ejected(now) + 1
        return out < count and out * 100 <= count * self._settings.max_ejection_percent

    def _eject(self, endpoint: Endpoint, now: float) -> None:
        settings = self._settings
        if endpoint.ejections:
            healthy_s = now - endpoint.ejected_until
            endpoint.ejections = max(0, endpoint.ejections - int(healthy_s / settings.interval_s))
        endpoint.ejections += 1
        endpoint.ejected_until = now + min(settings.base_ejection_s * endpoint.ejections, settings.max_ejection_s)
        endpoint.consecutive_5xx = endpoint.consecutive_gateway_failures = 0
