"""After 101 Switching Protocols: bytes move in both directions, under back-pressure, and nobody reads them.

Both connections get a new protocol, so that the HTTP state machines stay out of it. A tunnel in which nothing moves for
the route's idle time-out is closed.
"""

import asyncio
from typing import TYPE_CHECKING

from agent.proxy.upstream import INFINITE

if TYPE_CHECKING:
    from agent.proxy.exchange import Exchange
    from agent.proxy.upstream import UpstreamConnection


class Tunnel:
    """The two ends of one upgraded connection."""

    __slots__ = ("_client_end", "_ends_at", "_exchange", "_idle_s", "_open", "_upstream_end", "deadline", "wheel_at")

    def __init__(self, exchange: "Exchange", connection: "UpstreamConnection") -> None:
        self._exchange = exchange
        self._idle_s = exchange.plan.timeouts.idle_s
        self._ends_at = exchange.ends_at()
        self._client_end = TunnelEnd(self, exchange.client.transport)
        self._upstream_end = TunnelEnd(self, connection.transport)
        self._client_end.other, self._upstream_end.other = self._upstream_end, self._client_end
        self._client_end.owner, self._upstream_end.owner = exchange.client, connection
        self._open = 2
        self.deadline = INFINITE
        self.wheel_at = INFINITE

    def begin(self) -> None:
        """Take both connections over."""
        client = self._exchange.client
        client.deadline = INFINITE
        self._client_end.transport.set_protocol(self._client_end)
        self._upstream_end.transport.set_protocol(self._upstream_end)
        early, client.buffer = client.buffer, b""
        if early:
            self._client_end.bytes = len(early)
            self._upstream_end.transport.write(early)
        client.resume_all()
        self._exchange.context.in_flight -= 1
        self._exchange.context.tunnels += 1
        self.moved()

    def moved(self) -> None:
        """Something went through: put the end off."""
        context = self._exchange.context
        self.deadline = min(context.clock() + self._idle_s, self._ends_at)
        if self.deadline < self.wheel_at:
            context.watch(self)

    def on_deadline(self, now: float) -> None:
        """Nothing moved for too long, or its time is up."""
        exchange = self._exchange
        exchange.code = exchange.code or "timeout"
        exchange.why = "open for max_duration_s" if now >= self._ends_at else "nothing moved for idle_timeout_s"
        self.close()

    def close(self) -> None:
        """Cut both ends."""
        self._client_end.transport.abort()
        self._upstream_end.transport.abort()

    def end_lost(self) -> None:
        """One end is gone; when both are, the exchange is over."""
        self._open -= 1
        if self._open == 0:
            context = self._exchange.context
            context.wheel.forget(self)
            context.tunnels -= 1
            context.in_flight += 1  # which the end of the exchange takes off again
            self._exchange.tunnel_closed(self._client_end.bytes, self._upstream_end.bytes)
            self._client_end.owner.connection_lost(None)
            self._upstream_end.owner.connection_lost(None)


class TunnelEnd(asyncio.Protocol):
    """One side: what it receives, the other side sends."""

    __slots__ = ("_tunnel", "bytes", "has_ended", "other", "owner", "transport")

    other: "TunnelEnd"
    owner: asyncio.Protocol
    """The HTTP protocol that this end replaced: it keeps the books of its connection."""

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self.has_ended = False
        self.bytes = 0

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self.bytes += len(data)
        self.other.transport.write(data)
        self._tunnel.moved()

    def eof_received(self) -> bool:
        """Called by the event loop: pass the half-close on, and stay open for the other direction while it lasts."""
        self.has_ended = True
        if self.other.has_ended:
            return False
        if self.other.transport.can_write_eof() and not self.other.transport.is_closing():
            self.other.transport.write_eof()
            return True
        return False

    def pause_writing(self) -> None:
        """Called by the event loop."""
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by the event loop."""
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if not self.other.transport.is_closing():
            self.other.transport.close()  # what is still in its buffer goes out first
        self._tunnel.end_lost()
