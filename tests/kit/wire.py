"""The data path without sockets: a client, the sidecar and its application as scripted transports, driven by hand.

Everything between `Downstream` and `UpstreamConnection` is the real code. Time stands still until `advance`, connecting
takes until the next `settle`, and what a protocol raises is raised in the test.
"""

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import h11

from agent.core.address import parse_address
from agent.policies.retry import RetryRule
from agent.policies.retry import Settings as RetrySettings
from agent.policies.timeout import Settings as TimeoutSettings
from agent.policies.timeout import Timeouts
from agent.ports.policy import Policy
from agent.proxy.cluster import Cluster, Target
from agent.proxy.context import Context
from agent.proxy.downstream import Downstream
from agent.proxy.plan import Plan
from agent.proxy.pool import Pool
from agent.proxy.recorder import RouteRecorder
from agent.proxy.requester import Requester
from agent.proxy.settings import LimitsSettings
from agent.proxy.surface import InboundSurface
from agent.proxy.upstream import UpstreamConnection
from agent.telemetry.access_log import AccessLog
from agent.telemetry.metrics import Registry
from agent.traffic.routes import RouteTable
from agent.traffic.upstream_settings import PoolSettings
from agent.wire.forwarded import Trust

WALL = 1_800_000_000.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
OURS = {
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"forwarded",
    b"traceparent",
}
OURS |= {b"x-outrigger-deadline-ms"}
"""What the sidecar adds to every request that it forwards."""


class Seen(NamedTuple):
    """One request as the application read it, without what the sidecar adds to each."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


class _NoSocket:
    """Of which the kernel can't be asked anything."""

    family = socket.AF_UNIX

    def fileno(self) -> int:
        raise OSError("there is none")

    def setsockopt(self, *_: object) -> None:
        pass


class MockTransport(asyncio.Transport):
    """Records what is written; hands on what the test sends, unless reading is paused. As strict as asyncio's own."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("10.1.1.1", 40000), "socket": _NoSocket()})
        self.protocol = protocol
        self.written = b""
        self.inbox: deque[bytes] = deque()
        self.is_paused = False
        self.eof_sent = False
        self.closing = self.lost = self.aborted = False
        self.stall_at = 0
        """Bytes written from which on the peer takes no more; 0: it takes all."""
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        if self.eof_sent:
            raise RuntimeError("write after write_eof")
        if self.lost:
            raise RuntimeError("write after connection_lost")
        if self.closing:
            return
        self.written += data
        if self.stall_at and len(self.written) >= self.stall_at:
            self.stall_at = 0
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof_sent = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def pause_reading(self) -> None:
        assert not self.closing
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast(asyncio.Protocol, protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def step(self) -> bool:
        """One callback of the event loop; whether there was one to make."""
        if self.closing and not self.lost:
            self.lost = True
            self.inbox.clear()
            self.protocol.connection_lost(None)
            return True
        if self.inbox and not self.is_paused and not self.closing:
            self.protocol.data_received(self.inbox.popleft())
            return True
        return False

    def peer_closes(self) -> None:
        """The other side closes: all that it sent before is read first."""
        while self.step():
            pass
        if not self.lost:
            self.protocol.eof_received()
            self.closing = True


class _Context(Context):
    """Its wheel is turned by the test."""

    wire: "Wire"

    def _arm(self) -> None:
        pass

    def soon(self, callback: Callable[[], None]) -> None:
        self.wire.soon.append(callback)


class _Pool(Pool):
    """Connects at the next `settle`."""

    def __init__(self, wire: "Wire", context: Context, bounds: PoolSettings) -> None:
        super().__init__(context, parse_address("http://127.0.0.1:1"), bounds)
        self._wire = wire

    def open_for(self, exchange: Requester, ticket: int) -> None:
        self._open += 1
        self._wire.connecting.append((exchange, ticket))

    def connect(self, exchange: Requester, ticket: int) -> MockTransport:
        """Make the connection that the exchange awaits."""
        connection = UpstreamConnection(self)
        transport = MockTransport(connection)
        if self._wire.on_connect is not None:
            self._wire.on_connect(transport)
        self._connected(connection, exchange, ticket)
        return transport


class Server:
    """The application's side of one connection: what it read, in h11's opinion."""

    def __init__(self, transport: MockTransport) -> None:
        self.transport = transport
        self.seen: list[Seen] = []
        self.raw: list[tuple[bytes, bytes]] = []
        """Fields of the request that is being read, ours included."""
        self._read = 0
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        self._request: h11.Request | None = None
        self._body = b""

    def take(self) -> Seen | None:
        """The next request that is complete. Raises h11.RemoteProtocolError for bytes that h11 doesn't accept."""
        written = self.transport.written
        if len(written) > self._read:
            self._h11.receive_data(written[self._read :])
            self._read = len(written)
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, b""
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return self._complete()
            else:
                return None

    def _complete(self) -> Seen:
        request = self._request
        assert request is not None
        self.raw = list(request.headers)
        fields = tuple((name, value) for name, value in self.raw if name not in OURS)
        seen = Seen(request.method, request.target, fields, self._body)
        self.seen.append(seen)
        self._h11.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        self._h11.send(h11.EndOfMessage())
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        return seen


class Wire:
    """A sidecar with any number of clients and one application, whose `answer` is given to each request."""

    def __init__(
        self,
        answer: Callable[[Seen], bytes | Iterable[bytes] | None] = lambda _: OK,
        *,
        limits: LimitsSettings | None = None,
        chain: tuple[Policy, ...] = (),
        retry: RetrySettings | None = None,
        pool: PoolSettings | None = None,
    ) -> None:
        """`answer` returns bytes, several pieces of them, or None for silence."""
        self.answer = answer
        self.now = 1000.0
        self.defects: list[BaseException] = []
        self.registry = Registry()
        self.context = _Context(
            limits or LimitsSettings(),
            self.registry,
            AccessLog(10000, self.registry),
            clock=lambda: self.now,
            wall_clock=lambda: WALL,
            rand=random.Random(0),
            report=lambda where, error: self.defects.append(error),
        )
        self.on_connect: Callable[[MockTransport], None] | None = None
        """What the application does before the request reaches it."""
        self.soon: list[Callable[[], None]] = []
        self.context.wire = self
        self.connecting: list[tuple[Requester, int]] = []
        self.clients: list[MockTransport] = []
        self.servers: list[Server] = []
        cluster = Cluster("app", "app", self.registry)
        self.pool = _Pool(self, self.context, pool or PoolSettings())
        cluster.use([Target(self.pool.address, self.pool, cluster)])
        plan = self._plan(cluster)
        plan.set_chain(chain)
        if retry is not None:
            plan.retry = RetryRule(retry, route="all", registry=self.registry, rand=self.context.rand)
        self.plan = plan
        self.surface = InboundSurface(self.context)
        self.surface.use(RouteTable[Plan](()), plan, plan, Trust())

    def _plan(self, cluster: Cluster) -> Plan:
        timeouts = Timeouts(TimeoutSettings(), route="all", registry=self.registry)
        return Plan("all", "*", cluster, RouteRecorder(self.registry, "*"), timeouts)

    def client(self) -> MockTransport:
        """A new client's connection."""
        transport = MockTransport(Downstream(self.surface))
        self.clients.append(transport)
        return transport

    def send(self, client: MockTransport, *pieces: bytes) -> None:
        """Let the client send these pieces, each in a read of its own, and let everything happen that follows."""
        for piece in pieces:
            if piece:
                client.inbox.append(piece)
                self.settle()

    def settle(self) -> None:
        """Until nothing more happens by itself."""
        for _ in range(100_000):
            if not self._step():
                break
        else:
            raise AssertionError("it never comes to rest")
        if self.defects:
            raise self.defects[0]

    def _step(self) -> bool:
        if self.soon:
            self.soon.pop(0)()
            return True
        if self.connecting:
            exchange, ticket = self.connecting.pop(0)
            self.servers.append(Server(self.pool.connect(exchange, ticket)))
            return True
        if any(transport.step() for transport in self.clients):
            return True
        return any(server.transport.step() or self._serve(server) for server in self.servers)

    def _serve(self, server: Server) -> bool:
        if server.transport.lost or (seen := server.take()) is None:
            return False
        answer = self.answer(seen)
        if answer is not None:
            server.transport.inbox.extend([answer] if isinstance(answer, bytes) else answer)
        return True

    @property
    def seen(self) -> list[Seen]:
        """All requests that the application has read whole."""
        return [seen for server in self.servers for seen in server.seen]

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps of a second, and let happen what that brings about."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1)
            self.context.wheel.advance(self.now)
            self.settle()

    def check_books(self) -> None:
        """What must be true whenever everything is at rest."""
        open_clients = [client for client in self.clients if not client.lost]
        assert len(self.context.connections) == len(open_clients)
        open_servers = [server for server in self.servers if not server.transport.lost]
        assert self.pool.open == len(open_servers)
        busy = [one for one in self.context.connections if one.exchange is not None]
        assert self.context.in_flight == len(busy) - self.context.tunnels
        assert self.pool.idle <= self.pool.open - len([one for one in busy if one.exchange and one.exchange.connection])


def read_answers(data: bytes, methods: Iterable[bytes] = ()) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """All complete answers in what a client got: (status, fields, body), in h11's opinion; 1xx are left out.

    `methods` are those of the requests, GET where there are fewer. Raises h11.RemoteProtocolError.
    """
    answers: list[tuple[int, dict[bytes, bytes], bytes]] = []
    asked = list(methods)
    while data:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        method = asked.pop(0) if asked else b"GET"
        connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        response, body = None, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif not isinstance(event, h11.InformationalResponse):
                return answers
        assert response is not None
        answers.append((response.status_code, dict(response.headers), body))
        data = connection.trailing_data[0]
    return answers
