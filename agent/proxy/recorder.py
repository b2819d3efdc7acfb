"""What is remembered of each request: its place in the metrics, and one record for the access log."""

from bisect import bisect_left
from typing import TYPE_CHECKING

from agent.telemetry.access_log import DRAIN_DEADLINE
from agent.telemetry.metrics import LATENCY_BOUNDS, Registry

if TYPE_CHECKING:
    from agent.proxy.ending import Ending

Cell = list[float]

_WITHOUT_ANSWER = frozenset({"client_gone", "client_timeout", DRAIN_DEADLINE})
"""Reasons in the log that are no codes of answers."""


class RouteRecorder:
    """The metrics of one route, by method and status; cells are resolved on first use and kept."""

    __slots__ = ("_cells", "_cut", "_duration", "_refused", "_template", "bytes_in", "bytes_out")

    def __init__(self, registry: Registry, template: str) -> None:
        self._template = template
        self._duration = registry.histogram(
            "http_server_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ("http_request_method", "http_route", "http_response_status_code"),
        )
        self._cells: dict[tuple[bytes, int], Cell] = {}
        self._refused = registry.counter(
            "outrigger_refusals_total", "Answers that the sidecar made itself, by code.", ("http_route", "code")
        )
        self._cut = registry.counter(
            "outrigger_requests_cut_total",
            "Requests that ended without a complete answer, by what cut them.",
            ("http_route", "reason"),
        )
        self.bytes_in = registry.counter(
            "outrigger_request_body_bytes_total", "Bytes of request bodies.", ("http_route",)
        ).at(template)
        self.bytes_out = registry.counter(
            "outrigger_response_body_bytes_total", "Bytes of response bodies.", ("http_route",)
        ).at(template)

    def record(self, exchange: "Ending", now: float) -> None:
        """Count a finished request."""
        key = (exchange.head.method, exchange.status)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._duration.at(key[0].decode(), self._template, str(key[1]))
        seconds = now - exchange.started
        cell[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        cell[-1] += seconds
        if exchange.bytes_in:
            self.bytes_in[0] += exchange.bytes_in
        self.bytes_out[0] += exchange.bytes_out
        if exchange.code:
            cut = exchange.response_started or exchange.code in _WITHOUT_ANSWER
            (self._cut if cut else self._refused).at(self._template, exchange.code)[0] += 1
