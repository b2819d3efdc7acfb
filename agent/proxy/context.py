"""What all connections of one data path share: bounds, time, randomness, the log, and whether it drains."""

import asyncio
import random
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING

from agent.core.clock import Clock, monotonic, wall
from agent.core.timer_wheel import Timed, TimerWheel
from agent.proxy.settings import LimitsSettings
from agent.telemetry.access_log import AccessLog
from agent.telemetry.metrics import Registry
from agent.telemetry.trace_context import begin
from agent.wire.first_line import first_line
from agent.wire.problem import Refusal

if TYPE_CHECKING:
    from agent.proxy.downstream import Downstream
    from agent.proxy.ending import Ending


class Context:
    """One per process and event loop. Everything in it may change only between two callbacks of the loop."""

    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_date",
        "_date_at",
        "access_log",
        "cells",
        "clock",
        "connections",
        "idle_s",
        "in_flight",
        "limits",
        "rand",
        "registry",
        "report",
        "sample_ratio",
        "trust_sampled",
        "tunnels",
        "wall",
        "wheel",
    )

    def __init__(  # noqa: PLR0913  the one place where the data path's collaborators come together
        self,
        limits: LimitsSettings,
        registry: Registry,
        access_log: AccessLog,
        *,
        clock: Clock = monotonic,
        wall_clock: Clock = wall,
        rand: random.Random | None = None,
        report: Callable[[str, BaseException], None],
    ) -> None:
        self.limits = limits
        self.idle_s = limits.idle_timeout_s
        """Seconds that a connection may wait for its next request: read once per request, so kept here."""
        self.registry = registry
        self.access_log = access_log
        self.clock = clock
        self.wall = wall_clock
        self.rand = rand or random.Random()  # noqa: S311  identifiers and jitter, no secrets
        self.report = report
        """Told of defects: (where, error)."""
        self.sample_ratio = 0.1
        self.trust_sampled = True
        self.connections: set[Downstream] = set()
        self.in_flight = 0
        """Requests begun and not yet over."""
        self.tunnels = 0
        """Upgraded connections; they are not requests in flight any more."""
        self.wheel = TimerWheel(now=clock(), on_error=lambda error: report("deadline", error))
        self.cells = DataPathCells(registry, self)
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = float("inf")
        self._date = b""
        self._date_at = 0

    def watch(self, timed: Timed) -> None:
        """Let the wheel look at `timed` when its deadline comes. Called only where that is earlier than planned."""
        self.wheel.watch(timed)
        if timed.wheel_at < self._alarm_at:
            self._arm()

    def _arm(self) -> None:
        at = self.wheel.next_at()
        if self._alarm is not None:
            self._alarm.cancel()
        if at is None:
            self._alarm, self._alarm_at = None, float("inf")
            return
        self._alarm_at = at
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(max(0.0, at - self.clock()), self._tick)

    def _tick(self) -> None:
        self._alarm = None
        self._alarm_at = float("inf")
        self.wheel.advance(self.clock())
        self._arm()

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back after what else is due now."""
        asyncio.get_running_loop().call_soon(callback)

    def date_line(self, now_wall: float) -> bytes:
        """`date: …` CRLF, made once a second (RFC 9110, section 6.6.1)."""
        second = int(now_wall)
        if second != self._date_at:
            self._date_at = second
            self._date = b"date: %s\r\n" % formatdate(second, usegmt=True).encode()
        return self._date

    def client_gone(self, client: "Downstream") -> bool:
        """A connection is closed. Whether it was one of those that are counted."""
        self.wheel.forget(client)
        was_counted = client in self.connections
        self.connections.discard(client)
        return was_counted

    def log(self, exchange: "Ending", now: float) -> None:
        """Keep a record of a finished request, in the order of `agent.telemetry.access_log.FIELDS`."""
        head, trace = exchange.head, exchange.head.trace
        identity = head.identity
        started = exchange.started
        duration_s = now - started
        self.access_log.record(
            (
                head.method,
                head.route,
                exchange.status,
                exchange.code,
                exchange.origin,
                exchange.target_name,
                head.shadow,
                exchange.resends,
                exchange.client.surface.direction,
                self.wall() - duration_s,
                trace.trace_id,
                trace.span_id,
                head.client_ip,
                exchange.path,
                exchange.why or (head.shadow and head.shadow_why),
                identity.subject if identity is not None else "",
                identity.tenant if identity is not None else "",
                duration_s,
                exchange.upstream_s,
                exchange.sent_at - started,
                exchange.bytes_in,
                exchange.bytes_out,
            )
        )

    def log_malformed(self, client: "Downstream", data: bytes, refusal: Refusal, why: str) -> None:
        """Keep a record of bytes that were no request: what can be told of their first line, and a trace of their own.

        When they began to come isn't known, so there is no duration.
        """
        method, path = first_line(data)
        trace = begin(None, None, self.trust_sampled, self.sample_ratio, self.rand)
        direction = client.surface.direction
        self.access_log.record(
            (
                *(method, "", refusal.status, refusal.code, "agent", "", "", 0, direction, self.wall()),
                *(trace.trace_id, trace.span_id, client.peer, path, why, "", "", -1.0, -1.0, 0.0, 0, len(refusal.body)),
            )
        )

    def close(self) -> None:
        """Stop the clockwork."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class DataPathCells:
    """The counters that the connections themselves touch, resolved once."""

    __slots__ = ("bad_requests", "connections_refused", "connections_total", "timeouts")

    def __init__(self, registry: Registry, context: Context) -> None:
        active = registry.gauge("http_server_active_requests", "Requests in flight.")
        active.watch(lambda: context.in_flight)
        held = registry.gauge("http_server_open_connections", "Connections that clients hold open.")
        held.watch(lambda: len(context.connections))
        self.connections_total = registry.counter(
            "outrigger_connections_total", "Connections that clients opened."
        ).at()
        self.connections_refused = registry.counter(
            "outrigger_connections_refused_total", "Connections refused because limits.connections was reached."
        ).at()
        self.bad_requests = registry.counter(
            "outrigger_malformed_requests_total", "Requests without a single meaning, by code.", ("code",)
        )
        self.timeouts = registry.counter(
            "outrigger_client_timeouts_total", "Clients cut off for being slow, by what was awaited.", ("phase",)
        )
