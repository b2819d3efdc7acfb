"""Connections to one target: take the warmest, open another, wait in line, or hold on while the target restarts."""

import asyncio
import ssl
from collections import deque
from typing import TYPE_CHECKING

from agent.core.address import Address
from agent.core.tasks import spawn
from agent.proxy.context import Context
from agent.proxy.hold import Hold, HoldFullError
from agent.proxy.upstream import UpstreamConnection
from agent.traffic.upstream_settings import PoolSettings
from agent.wire.errors import MalformedError

if TYPE_CHECKING:
    from agent.proxy.requester import Requester

_FRESH_S = 1.0
"""A request that can't be replayed takes only connections that idled for less: older ones may be closing under it.

Of those it takes none whose end has come already: an application that closes after its n-th answer then costs one POST
in 60 instead of one in 8 (measured with n = 3)."""


class Pool:
    """LIFO pool of one target: taking and giving back are O(1), and the surplus at the bottom ages out."""

    __slots__ = (
        "_bounds", "_context", "_idle", "_open", "_pending", "_tls", "address", "authority", "hold",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913  what one target has of its own
        self,
        context: Context,
        address: Address,
        bounds: PoolSettings,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        authority: str = "",
        hold: Hold | None = None,
    ) -> None:
        self._context = context
        self._bounds = bounds
        self._tls = (tls, server_name or address.host) if tls is not None else None
        self._idle: list[UpstreamConnection] = []
        self._pending: deque[tuple[Requester, int]] = deque()
        self._open = 0
        self.address = address
        self.authority = (authority or address.authority).encode()
        """Host of requests that don't keep their client's."""
        self.hold = hold

    @property
    def open(self) -> int:
        """Connections that exist or are being made."""
        return self._open

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def pending(self) -> int:
        """Requests that wait for a connection."""
        return len(self._pending)

    def take(self, now: float, *, replayable: bool) -> UpstreamConnection | None:
        """The connection that idled shortest, or None where a new one is needed."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.transport.is_closing():
                continue
            if not replayable and now - connection.idle_since > _FRESH_S:
                idle.append(connection)  # still good for a request that can be sent again
                return None
            if not replayable and connection.peer_has_closed():
                connection.discard()
                continue
            return connection
        return None

    def open_for(self, exchange: "Requester", ticket: int) -> "asyncio.Task[None] | None":
        """Get a connection for `exchange`: it hears `attach` or `connect_failed`, unless it awaits another by then.

        `ticket` is the try that asks: an exchange may give up on a connection and ask again. Returns the task that
        connects, to be cancelled by who gives up; None where there is none.
        """
        if self._open >= self._bounds.max_connections and self._idle:
            self._idle[0].discard()  # those that idle weren't fresh enough for this one
        if self._open < self._bounds.max_connections:
            self._open += 1
            return spawn(self._serve(exchange, ticket), name="connect", on_error=self._context.report)
        if len(self._pending) >= self._bounds.max_pending:  # those who gave up don't count
            self._pending = deque(place for place in self._pending if place[0].awaiting == place[1])
        if len(self._pending) < self._bounds.max_pending:
            self._pending.append((exchange, ticket))
        else:
            exchange.connect_failed("overloaded", "all connections are in use and the line for one is full")
        return None

    def give_back(self, connection: UpstreamConnection, now: float) -> None:
        """Take a connection that can serve another request."""
        if self._pending and not connection.transport.is_closing() and self._hand_on(connection):
            return
        if len(self._idle) >= self._bounds.max_idle:
            connection.discard()
            return
        connection.idle_since = now
        connection.deadline = now + self._bounds.idle_timeout_s
        if connection.deadline < connection.wheel_at:
            self._context.watch(connection)
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is gone. Called once for each."""
        self._context.wheel.forget(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._one_less()

    def _one_less(self) -> None:
        """A connection is gone or didn't come about: the next in line may try."""
        self._open -= 1
        while self._pending and self._open < self._bounds.max_connections:
            exchange, ticket = self._pending.popleft()
            if exchange.awaiting == ticket:
                self.open_for(exchange, ticket)

    def close(self) -> None:
        """Close what idles; connections in use close when their exchange is over."""
        self._bounds = self._bounds.model_copy(update={"max_idle": 0})
        for connection in self._idle[:]:
            connection.discard()

    def _hand_on(self, connection: UpstreamConnection) -> bool:
        while self._pending:
            exchange, ticket = self._pending.popleft()
            if exchange.awaiting == ticket:
                exchange.attach(connection)
                return True
        return False

    async def _serve(self, exchange: "Requester", ticket: int) -> None:
        """Connect for one exchange. Whoever gave up meanwhile leaves the connection to the others."""
        try:
            connection = await self._connect(exchange)
        except BaseException as error:
            self._one_less()
            if isinstance(error, Exception):
                if exchange.awaiting != ticket:
                    return
                exchange.connect_failed(*_blame(error, self.address))
                return
            raise
        self._connected(connection, exchange, ticket)

    def _connected(self, connection: UpstreamConnection, exchange: "Requester", ticket: int) -> None:
        is_lost = connection.transport.is_closing()  # closed by its peer at once, or it spoke before it was asked
        if exchange.awaiting == ticket:
            if is_lost:
                exchange.connect_failed("upstream_closed", f"{self.address} closed the connection at once")
            else:
                exchange.attach(connection)
        elif not is_lost:
            self.give_back(connection, self._context.clock())

    async def _connect(self, exchange: "Requester") -> UpstreamConnection:
        clock = self._context.clock
        began = clock()
        while True:
            try:
                return await self.dial(exchange.plan.timeouts.connect_s)
            except (ConnectionRefusedError, FileNotFoundError):
                if self.hold is None or exchange.is_over:
                    raise
            await self.hold.until_back(self.reachable, clock() - began)

    async def reachable(self) -> bool:
        """Whether the target takes connections again; the one made to find out is kept."""
        try:
            connection = await self.dial(1.0)
        except (OSError, TimeoutError):
            return False
        self._open += 1
        self.give_back(connection, self._context.clock())
        return True

    async def dial(self, timeout_s: float) -> UpstreamConnection:
        """Open a connection. Raises OSError (ssl.SSLError among them) or TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            if self.address.scheme == "unix":
                _, protocol = await loop.create_unix_connection(lambda: UpstreamConnection(self), self.address.path)
            else:
                context, name = self._tls or (None, None)
                _, protocol = await loop.create_connection(
                    lambda: UpstreamConnection(self),
                    self.address.host,
                    self.address.port,
                    ssl=context,
                    server_hostname=name,
                )
        return protocol


def _blame(error: Exception, address: Address) -> tuple[str, str]:
    """The stable code for a failed connect, and a sentence for the log."""
    if isinstance(error, HoldFullError):
        return "overloaded" if error.is_full else "upstream_unreachable", str(error)
    if isinstance(error, TimeoutError):
        return "connect_timeout", f"{address} took no connection in time"
    if isinstance(error, ssl.SSLError):
        return "upstream_tls", f"{address}: {error}"
    if isinstance(error, OSError | MalformedError):
        return "upstream_unreachable", f"{address}: {error}"
    return "internal", f"{address}: {error!r}"
