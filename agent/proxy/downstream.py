"""One client's connection: reads requests one after another, and writes their answers in that order.

States: *idle* (no exchange, nothing buffered), *head* (part of a head is buffered), *exchange* (one request is under
way; its body is read through `_body`, what follows it stays in `buffer`), *leaving* (the last answer is written; what
still comes is thrown away so that the client can read it before the connection is gone; RFC 9112, section 9.6).
"""

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from agent.proxy.client_end import CLIENT, PIPELINE, ClientEnd
from agent.proxy.exchange import Exchange
from agent.proxy.refusals import REFUSALS
from agent.wire.errors import MalformedError
from agent.wire.h1_body import ChunkedBody, FixedBody
from agent.wire.h1_request import RequestParser
from agent.wire.head import RequestHead

if TYPE_CHECKING:
    from agent.proxy.surface import Surface
    from agent.wire.forwarded import Trust

_REFUSED_TOO = 256
"""Connections beyond the limit that are kept for as long as it takes to read the refusal."""
_SKIP_BYTES = 65536
_AT_ONCE = 64
"""Pipelined requests that are refused in one go; then other connections have a turn."""
_empty_lines = cast("Callable[[bytes], re.Match[bytes]]", re.compile(rb"(?:\r\n)*+").match)


class Downstream(ClientEnd):
    """Serves one client. `surface` says what listens here: routes, trust, scheme."""

    __slots__ = (
        "_client_ip", "_lines", "_lines_host", "_parser", "_stranger_to", "peer", "route", "surface", "will_keep",
    )  # fmt: skip

    def __init__(self, surface: "Surface") -> None:
        super().__init__(surface.context)
        self.surface = surface
        self._parser: RequestParser = surface.parser()
        self.peer = self._client_ip = ""
        self._stranger_to: Trust | None = None
        self._lines_host: bytes | None = None
        self._lines = b""
        self.route = surface.route
        self.will_keep = True

    # --- the loop's callbacks ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self.transport = cast(asyncio.Transport, transport)
        context = self.context
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else "unix"
        context.cells.connections_total[0] += 1
        if self.surface.open >= context.limits.connections:
            self._refuse_connection()
            return
        context.connections.add(self)
        self.surface.open += 1
        self.transport.set_write_buffer_limits(high=context.limits.buffer_bytes)
        limits = context.limits
        self.set_deadline(context.clock() + (limits.drain_idle_s if self.surface.draining else limits.header_timeout_s))

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self.exchange is None:
            if self._leaving:
                self._threw_away = True
            elif self._body is not None:
                self._next(self._skip_body(data))
            else:
                self._next(self.buffer + data if self.buffer else data)
        elif self._body is not None:
            self.buffer = self._read_body(data)
        else:
            self.buffer += data
            if len(self.buffer) > self.context.limits.pipelined_bytes:
                self._hold(PIPELINE)

    def eof_received(self) -> None:
        """Called by the event loop: a client that closes its side is gone (as nginx and Envoy see it)."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if self.context.client_gone(self):
            self.surface.client_gone()
        if self.exchange is not None:
            self.exchange.cancel()

    def pause_writing(self) -> None:
        """Called by the event loop: the client reads too slowly, so its upstream is no longer read."""
        self._is_full = True
        if self.exchange is not None and self.exchange.connection is not None:
            self.exchange.connection.pause_reading()
        self._unsent, self._moved_at = -1, self.context.clock()
        self.set_deadline(self._moved_at + self.context.limits.write_timeout_s / 4)

    def resume_writing(self) -> None:
        """Called by the event loop."""
        self._is_full = False
        exchange = self.exchange
        if exchange is not None:
            if exchange.response_started:
                self.set_deadline(exchange.quiet_until(self.context.clock()))
            if exchange.connection is not None:
                exchange.connection.resume_reading()
        elif not self._leaving:
            self._await_next(self.context.clock())

    # --- reading requests ----------------------------------------------------------------------------------------

    def _next(self, data: bytes) -> None:
        """Begin every request that is complete enough; keep the rest."""
        at_once = _AT_ONCE
        while data and not self._is_full:  # else answers would pile up for a client that doesn't read them
            if data[0] == 13:  # empty lines before the request line are forgiven (RFC 9112, section 2.2)
                data = data[_empty_lines(data).end() :]
                if data[:1] != b"\r":
                    continue
                if data == b"\r":
                    break
                self._refuse(MalformedError("a CR before the request line"), data)
                return
            try:
                parsed = self._parser.parse(data)
            except MalformedError as error:
                self._refuse(error, data)
                return
            if parsed is None:
                if not self.buffer:
                    self.set_deadline(self.context.clock() + self.context.limits.header_timeout_s)
                break
            head, length = parsed
            data = data[length:] if length < len(data) else b""
            self.buffer = b""
            data = self._begin(head, data)
            if self.exchange is not None or self._leaving or self._body is not None:
                break
            at_once -= 1
            if not at_once:
                self._hold(PIPELINE)
                self.context.soon(self._go_on)
                break
        self.buffer = b"" if self._leaving else data

    def _begin(self, head: RequestHead, rest: bytes) -> bytes:
        """Start an exchange; returns what of `rest` isn't its body."""
        head.peer = self.peer
        if self.surface.trust is self._stranger_to:  # what such a peer says of other addresses doesn't count
            head.client_ip, head.scheme = self._client_ip, self.surface.scheme
        else:
            self._meet(head)
        if head.content_length:
            self._body = ChunkedBody() if head.chunked else FixedBody(head.content_length)
        self.context.in_flight += 1
        self.exchange = exchange = Exchange(self, head, self.context.clock())
        exchange.start()
        if rest and self._body is not None:
            rest = self._read_body(rest) if self.exchange is exchange else self._skip_body(rest)
        return rest

    def _meet(self, head: RequestHead) -> None:
        """Learn whether this peer is a trusted proxy, once per connection and configuration."""
        surface = self.surface
        surface.complete(head)
        if not surface.trust.trusts(self.peer):
            self._stranger_to = surface.trust
            self._client_ip = head.client_ip
            self._lines_host = None

    def can_skip_body(self) -> bool:
        """Whether the rest of a refused request's body is short enough to be read and thrown away.

        Else the connection is closed. A client that awaits 100 Continue may or may not send its body now.
        """
        body, exchange = self._body, self.exchange
        if exchange is None or exchange.head.expect_continue:
            return False
        return isinstance(body, FixedBody) and body.remaining <= _SKIP_BYTES

    def _skip_body(self, data: bytes) -> bytes:
        body = self._body
        assert isinstance(body, FixedBody)
        body.feed(data)
        if not body.done:
            return b""
        self._body = None
        return body.rest

    def _read_body(self, data: bytes) -> bytes:
        body, exchange = self._body, self.exchange
        assert body is not None
        assert exchange is not None
        try:
            piece = body.feed(data)
        except MalformedError as error:
            exchange.fail("malformed_request", str(error))
            return b""
        if not body.done:
            exchange.on_body(piece, done=False)
            return b""
        self._body = None
        exchange.on_body(piece, True, body.trailers if isinstance(body, ChunkedBody) else None)
        return body.rest

    def _refuse(self, error: MalformedError, data: bytes) -> None:
        """Answer bytes that are no request, and leave: what follows them can't be trusted either."""
        refusal = REFUSALS[error.code]
        self.context.cells.bad_requests.at(error.code)[0] += 1
        self.context.log_malformed(self, data, refusal, str(error))
        self.write(refusal.render(extra=self.context.date_line(self.context.wall()), close=True))
        self._leave()

    def forwarded(self, head: RequestHead) -> bytes:
        """The forwarding header lines (X-Forwarded-*, Forwarded); a stranger's depend on Host alone."""
        host = head.fields.get(b"host", b"")
        if host == self._lines_host and self._stranger_to is self.surface.trust:
            return self._lines
        lines = self.surface.forwarded(head)
        if self._stranger_to is self.surface.trust:
            self._lines_host, self._lines = host, lines
        return lines

    # --- writing answers -----------------------------------------------------------------------------------------

    def exchange_over(self, now: float, *, close: bool) -> None:
        """The exchange is complete: on to the next request, or leave."""
        self.exchange = None
        if close:
            if not self.transport.is_closing():
                self._leave()
        elif self._is_full:
            self._hold(CLIENT)  # answers to further requests would only pile up
        else:
            self._await_next(now)

    def _await_next(self, now: float) -> None:
        context = self.context
        self.deadline = at = now + (context.limits.drain_idle_s if self.surface.draining else context.idle_s)
        if at < self.wheel_at:
            context.watch(self)
        if self._held:
            self.resume_all()
        if self.buffer and not self.transport.is_closing():
            data, self.buffer = self.buffer, b""
            self._next(data)

    def _go_on(self) -> None:
        """The others had their turn: on with the requests that are read already."""
        if self.exchange is None and not self._leaving and not self._is_full and not self.transport.is_closing():
            self._await_next(self.context.clock())

    def _refuse_connection(self) -> None:
        """One connection too many: say so, and let the client read it, unless too many are reading it already."""
        context = self.context
        context.cells.connections_refused[0] += 1
        self.write(REFUSALS["connection_limit"].render(extra=context.date_line(context.wall()), close=True))
        if self.surface.open < context.limits.connections + _REFUSED_TOO:
            context.connections.add(self)
            self.surface.open += 1
            self._leave()
        else:
            self.transport.close()

    def drain(self) -> None:
        """No more requests after this one; an idle connection gets a moment for a request that is on its way."""
        if self.exchange is None and not self._leaving:
            self.set_deadline(self.context.clock() + self.context.limits.drain_idle_s)

    def cut(self) -> None:
        """The process ends: what isn't complete by now never will be."""
        if self.exchange is not None:
            self.exchange.cut()
        else:
            self.abort()

    def on_deadline(self, now: float) -> None:
        """Called by the wheel."""
        exchange = self.exchange
        if self._leaving or (self._is_full and (exchange is None or now < exchange.ends_at())):
            self._check_unsent(now)
        elif exchange is not None:
            exchange.on_deadline(now)
        elif self.buffer:
            self.context.cells.timeouts.at("head")[0] += 1
            self._refuse(MalformedError("the head was not complete in time", "request_timeout"), self.buffer)
        else:
            self.transport.close()
