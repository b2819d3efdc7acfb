"""One connection to the application or an upstream: sends a request, reads its answer, and tells its exchange."""

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from agent.proxy.socket_state import last_words
from agent.wire.errors import MalformedError
from agent.wire.h1_body import Body, ChunkedBody, FixedBody, UntilCloseBody
from agent.wire.h1_response import ResponseParser
from agent.wire.head import ResponseHead

if TYPE_CHECKING:
    from agent.proxy.pool import Pool
    from agent.proxy.requester import Requester

INFINITE = float("inf")
_TCP_INFO = getattr(socket, "TCP_INFO", None)
_ESTABLISHED = 1
"""First byte of Linux' `struct tcp_info`: TCP_ESTABLISHED."""
HIGH_WATER_BYTES = 65536
"""Bytes written but not yet taken by a peer, beyond which its other side is no longer read."""
_MOST_INTERIMS = 16
"""1xx answers to one request; a flood of them would never be an answer."""


class UpstreamConnection(asyncio.Protocol):
    """Serves one exchange at a time; between two it lies in its pool."""

    __slots__ = (
        "_body",
        "_buffer",
        "_forgotten",
        "_interims",
        "_parser",
        "_paused",
        "_pool",
        "deadline",
        "exchange",
        "idle_since",
        "reusable",
        "served",
        "trailers",
        "transport",
        "wheel_at",
    )

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._parser = ResponseParser()
        self._buffer = b""
        self._body: Body | None = None
        self._forgotten = False
        self._interims = 0
        self._paused = False
        self.exchange: Requester | None = None
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.served = 0
        """Answers read so far: a connection that never served can't be a stale one."""
        self.trailers: list[bytes] = []
        """Trailer fields of the chunked answer that is being read, complete once it is."""
        self.reusable = True
        self.idle_since = 0.0
        self.deadline = INFINITE
        self.wheel_at = INFINITE

    @property
    def was_stale(self) -> bool:
        """Whether its peer may have closed it before it saw the request: it served before, and no byte came back."""
        return self.served > 0 and not self._buffer

    def peer_has_closed(self) -> bool:
        """Whether its end has come that the event loop hasn't told of yet.

        One system call: for requests that can't be sent again, which would be lost on such a connection.
        """
        raw = self.transport.get_extra_info("socket")
        if _TCP_INFO is None or raw.family == socket.AF_UNIX:
            return False
        state: bytes = raw.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)
        return state[0] != _ESTABLISHED

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)

    def send(self, exchange: "Requester", data: bytes) -> None:
        """Begin an exchange with its request head and as much of the body as there is."""
        self.exchange = exchange
        self.deadline = INFINITE
        self._interims = 0
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        exchange = self.exchange
        if exchange is None:  # a byte after a complete answer: whose would it be?
            self.discard()
        elif self._body is not None:
            self._read_body(exchange, self._body, data)
        else:
            if self._buffer:
                data, self._buffer = self._buffer + data, b""
            self._read_head(exchange, data)

    def _read_head(self, exchange: "Requester", data: bytes) -> None:
        to_head = exchange.head.method == b"HEAD"
        try:
            while True:
                parsed = self._parser.parse(data, to_head=to_head)
                if parsed is None:
                    self._buffer = data
                    return
                head, length = parsed
                if head.status >= 200:
                    if head.content_length == len(data) - length and not to_head:  # all of it, most of the time
                        self.reusable = head.keep_alive
                        self.served += 1
                        exchange.respond(head, data[length:], True)
                        return
                    break
                data = data[length:]
                if head.status == 101:
                    exchange.switch_protocols(self, head, data)
                    return
                self._interims += 1
                if self._interims > _MOST_INTERIMS:
                    raise MalformedError(f"more than {_MOST_INTERIMS} interim answers", "upstream_garbage")
                exchange.interim(head)
                if not data:
                    return
            self._begin_body(exchange, head, data[length:] if length < len(data) else b"", to_head)
        except MalformedError as error:
            self.discard()
            exchange.upstream_failed("upstream_garbage", str(error))

    def _begin_body(self, exchange: "Requester", head: ResponseHead, rest: bytes, to_head: bool) -> None:
        """Take what came with the head: the whole body, most of the time."""
        length = head.content_length
        self.reusable = head.keep_alive
        if length == 0 or to_head:
            piece, done = b"", True
            self.reusable = head.keep_alive and not rest
        elif length > 0:
            extra = len(rest) - length
            if extra >= 0:
                piece, done = (rest, True) if extra == 0 else (rest[:length], True)
                self.reusable = head.keep_alive and extra == 0
            else:
                piece, done = rest, False
                self._body = FixedBody(-extra)
        else:
            body: ChunkedBody | UntilCloseBody
            if head.chunked:
                body = ChunkedBody()
                self.trailers = body.trailers
            else:
                body, self.trailers = UntilCloseBody(), []
            piece = body.feed(rest)
            done = body.done
            if done:
                self.reusable = head.keep_alive and not body.rest
            else:
                self._body = body
        if done:
            self.served += 1
        exchange.respond(head, piece, done)

    def _read_body(self, exchange: "Requester", body: Body, data: bytes) -> None:
        try:
            piece = body.feed(data)
        except MalformedError as error:
            self.discard()
            exchange.upstream_failed("upstream_garbage", str(error))
            return
        if body.done:
            self.served += 1
            self._body = None
            if body.rest:
                self.reusable = False
        exchange.respond_more(piece, body.done)

    def eof_received(self) -> None:
        """Called by the event loop; returning None closes the transport, and `connection_lost` does the rest."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if exc is not None and self.exchange is not None and (last := last_words(self.transport)):
            self.data_received(last)
        exchange, self.exchange = self.exchange, None
        self._forget()
        if exchange is None:
            return
        if exc is None and isinstance(self._body, UntilCloseBody):
            self._body.close()
            exchange.respond_more(b"", done=True)
            return
        exchange.upstream_failed("upstream_closed", str(exc or "closed before the answer was complete"))

    def pause_writing(self) -> None:
        """Called by the event loop: the upstream reads too slowly, so the client is no longer read."""
        if self.exchange is not None:
            self.exchange.upstream_is_full()

    def resume_writing(self) -> None:
        """Called by the event loop."""
        if self.exchange is not None:
            self.exchange.upstream_has_room()

    def pause_reading(self) -> None:
        """The client takes no more for now."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """The client has room again."""
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def release(self, now: float) -> None:
        """The exchange is over: back to the pool, or closed where the connection can't be used again."""
        self.exchange = None
        if self._paused:
            self.resume_reading()
        if self.reusable and self._body is None and not self._buffer:  # the pool looks whether it is closing
            self._pool.give_back(self, now)
        else:
            self.discard()

    def discard(self) -> None:
        """Close at once, without telling an exchange."""
        self.exchange = None
        self._forget()
        self.transport.abort()

    def _forget(self) -> None:
        if not self._forgotten:
            self._forgotten = True
            self._pool.forget(self)

    def on_deadline(self, now: float) -> None:
        """Idle for too long: shorter than the application's own time-out, so that it never closes under a request."""
        if self.exchange is None:
            self.discard()
