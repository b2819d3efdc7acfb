"""A copy of a request to another upstream: it can neither delay nor fail the original, and its answer is thrown away.

A copy is sent when the original's body is complete, so bodies are kept up to a bound; longer ones, and copies beyond a
number under way at a time, are dropped and counted.
"""

from typing import TYPE_CHECKING

from agent.proxy.forward import request_bytes
from agent.proxy.upstream import INFINITE
from agent.telemetry.metrics import Registry
from agent.wire.head import ResponseHead

if TYPE_CHECKING:
    from agent.proxy.cluster import Cluster, Target
    from agent.proxy.context import Context
    from agent.proxy.ending import Ending
    from agent.proxy.plan import Plan
    from agent.proxy.upstream import UpstreamConnection

BODY_BYTES = 65536
UNDER_WAY = 64
TIMEOUT_S = 15.0


class Mirroring:
    """Where a route's copies go, and how many are under way."""

    __slots__ = ("_cells", "cluster", "context", "under_way")

    def __init__(self, cluster: "Cluster", context: "Context", registry: Registry) -> None:
        self.cluster = cluster
        self.context = context
        self.under_way = 0
        counter = registry.counter(
            "outrigger_mirrored_requests_total",
            "Copies of requests: answered, failed, or dropped since there were too many or the body was too long.",
            ("upstream", "result"),
        )
        self._cells = {result: counter.at(cluster.name, result) for result in ("answered", "failed", "dropped")}

    def count(self, result: str) -> None:
        """Remember how a copy ended."""
        self._cells[result][0] += 1

    def begin(self, exchange: "Ending", early: list[bytes]) -> "Mirror | None":
        """Prepare the copy of a request that is being forwarded; None where there are too many already.

        `early` is what has come of its body, framed as it goes on.
        """
        target = None
        if self.under_way < UNDER_WAY and not exchange.head.upgrade:
            target = self.cluster.pick(exchange.head, self.context.clock(), None)
        if target is None:
            self.count("dropped")
            return None
        return Mirror(self, exchange, target, early)


class Mirror:
    """One copy. A `Requester`, as the exchange of the original is."""

    __slots__ = (
        "_mirroring", "_pieces", "_size", "_target", "awaiting", "connection", "deadline", "head", "plan", "wheel_at",
    )  # fmt: skip

    def __init__(self, mirroring: Mirroring, exchange: "Ending", target: "Target", early: list[bytes]) -> None:
        self._mirroring = mirroring
        self._target: Target | None = target
        self.head = exchange.head
        self.plan: Plan = exchange.plan
        self._pieces = [request_bytes(exchange, target.pool.authority)]
        self._size = 0
        self.awaiting = 0
        self.connection: UpstreamConnection | None = None
        self.deadline = INFINITE
        self.wheel_at = INFINITE
        mirroring.under_way += 1
        target.begin()
        for piece in early:
            self.feed(piece, done=False)
        if exchange.request_done and self._target is not None:
            self._send()

    def feed(self, piece: bytes, done: bool) -> None:
        """A piece of the original's body, framed as it goes on."""
        if self._target is None or self.awaiting or self.connection is not None:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > BODY_BYTES:
            self._end("dropped")
        elif done:
            self._send()

    def abandon(self) -> None:
        """The original ended before its body was complete."""
        if self._target is not None and not self.awaiting and self.connection is None:
            self._end("dropped")

    @property
    def is_over(self) -> bool:
        """Whether to give up on a target that restarts: a copy never waits for one."""
        return True

    def _send(self) -> None:
        assert self._target is not None
        context = self._mirroring.context
        now = context.clock()
        self.deadline = now + TIMEOUT_S
        context.watch(self)
        connection = self._target.pool.take(now, replayable=True)
        if connection is not None:
            self.attach(connection)
        else:
            self.awaiting = 1
            self._target.pool.open_for(self, 1)

    def attach(self, connection: "UpstreamConnection") -> None:
        """Take a connection and send the copy."""
        self.awaiting = 0
        self.connection = connection
        connection.send(self, b"".join(self._pieces))
        self._pieces = []

    def connect_failed(self, code: str, why: str) -> None:
        """No connection: the copy is lost."""
        self._end("failed")

    def upstream_failed(self, code: str, why: str) -> None:
        """The connection broke."""
        self.connection = None
        self._end("failed")

    def interim(self, response: ResponseHead) -> None:
        """Nobody waits for a 1xx."""

    def respond(self, response: ResponseHead, piece: bytes, done: bool) -> None:
        """The answer has come, and is thrown away."""
        if done:
            self._end("answered")

    def respond_more(self, piece: bytes, done: bool) -> None:
        """Thrown away as well."""
        if done:
            self._end("answered")

    def switch_protocols(self, connection: "UpstreamConnection", response: ResponseHead, rest: bytes) -> None:
        """No upgrade was asked for."""
        self._end("failed")

    def upstream_is_full(self) -> None:
        """The copy is already written: nothing to stop."""

    def upstream_has_room(self) -> None:
        """Nothing waits for room."""

    def on_deadline(self, now: float) -> None:
        """The shadow upstream takes too long."""
        self._end("failed")

    def _end(self, result: str) -> None:
        if self._target is None:
            return
        mirroring, target, self._target = self._mirroring, self._target, None
        mirroring.under_way -= 1
        mirroring.count(result)
        mirroring.context.wheel.forget(self)
        self.awaiting = 0
        now = mirroring.context.clock()
        target.end(None, -1.0, now)
        connection, self.connection = self.connection, None
        if connection is not None:
            if result == "answered":
                connection.release(now)
            else:
                connection.discard()
        self._pieces = []
