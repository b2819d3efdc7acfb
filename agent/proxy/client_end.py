"""The client's end of a connection: one deadline, back-pressure in both directions, and leaving without a reset.

What is read from it and why is `agent.proxy.downstream`'s business.
"""

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from agent.proxy.socket_state import unsent_bytes
from agent.proxy.upstream import INFINITE
from agent.wire.h1_body import ChunkedBody, FixedBody

if TYPE_CHECKING:
    from agent.proxy.context import Context
    from agent.proxy.exchange import Exchange

_LINGER_S = 2.0
"""A client that has its last answer and sends nothing for so long is cut."""
_LINGER_MOST_S = 10.0
"""For so long at most what a client sends after its last answer is thrown away."""
_RESET = struct.pack("ii", 1, 0)
"""`SO_LINGER` with no time to linger: closing sends RST instead of FIN."""
UPSTREAM, PIPELINE, CLIENT = 1, 2, 4
"""Why reading is stopped: the upstream is full, too much is read ahead, or the client doesn't take its answers."""


class ClientEnd(asyncio.Protocol):
    """State that reading, writing and leaving share."""

    __slots__ = (
        "_body", "_held", "_is_full", "_leave_by", "_leaving", "_moved_at", "_threw_away", "_unsent", "buffer",
        "context", "deadline", "exchange", "transport", "wheel_at",
    )  # fmt: skip

    def __init__(self, context: "Context") -> None:
        self.context = context
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.exchange: Exchange | None = None
        self.buffer = b""
        """What was read and not yet understood."""
        self._body: FixedBody | ChunkedBody | None = None
        self.deadline = INFINITE
        self.wheel_at = INFINITE
        self._held = 0
        self._is_full = False
        self._leaving = False
        self._threw_away = False
        self._unsent = 0
        self._moved_at = self._leave_by = 0.0

    def on_deadline(self, now: float) -> None:
        """Called by the wheel."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Send to the client."""
        self.transport.write(data)

    def relaying(self, until: float) -> None:
        """The answer is being streamed: only silence counts against it, and that may last `until` then."""
        if not self._is_full:
            self.set_deadline(until)

    def _leave(self) -> None:
        """Send what is written, say that nothing more comes, and give the client a moment to read it."""
        self._leaving = True
        self._body = None
        self.buffer = b""
        if self._held:
            self.resume_all()
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
        now = self.context.clock()
        self._leave_by = now + _LINGER_MOST_S
        self._unsent, self._moved_at = -1, now
        self.set_deadline(now + _LINGER_S)

    def abort(self, *, reset: bool = False) -> None:
        """Cut the connection, unsent bytes and all. `reset` lets the client see that this is no regular end."""
        if reset and not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def set_deadline(self, at: float) -> None:
        """Move the one deadline of this connection."""
        self.deadline = at
        if at < self.wheel_at:
            self.context.watch(self)

    def _check_unsent(self, now: float) -> None:
        """Cut a client that takes nothing of its answer for too long, or that has had its moment to read the last one.

        Being slow is no offence: as long as its kernel acknowledges a byte between two looks, it has its time.
        """
        limits = self.context.limits
        unsent = unsent_bytes(self.transport)
        if unsent != self._unsent:
            self._unsent, self._moved_at = unsent, now
        if unsent or not self._leaving:
            if now - self._moved_at < limits.write_timeout_s:
                self.set_deadline(now + limits.write_timeout_s / 4)
                return
            self.context.cells.timeouts.at("write")[0] += 1
            if self.exchange is not None:
                self.exchange.code = "client_timeout"
                self.exchange.why = f"no byte of the answer was taken for {limits.write_timeout_s:g} s"
        elif self._threw_away and now < self._leave_by:
            self._threw_away = False
            self.set_deadline(now + _LINGER_S)
            return
        self.transport.abort()

    def pause_reading(self) -> None:
        """Read no more of this client until its upstream has taken what there is."""
        self._hold(UPSTREAM)

    def resume_reading(self) -> None:
        """The upstream has room again."""
        if self._held & UPSTREAM:
            self._held &= ~UPSTREAM
            if not self._held and not self.transport.is_closing():
                self.transport.resume_reading()

    @property
    def is_held(self) -> bool:
        """Whether this client isn't read since its upstream takes no more."""
        return self._held & UPSTREAM != 0

    def resume_all(self) -> None:
        """Read on, whatever the reading was stopped for."""
        if self._held:
            self._held = 0
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def _hold(self, reason: int) -> None:
        if not self._held and not self.transport.is_closing():
            self.transport.pause_reading()
        self._held |= reason
