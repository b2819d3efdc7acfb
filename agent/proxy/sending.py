"""The request on its way to a target: on a pooled connection at once, tried again where that is safe."""

import asyncio
from typing import TYPE_CHECKING

from agent.core.tasks import spawn
from agent.policies.retry import CAUSES
from agent.proxy.ending import Ending
from agent.proxy.forward import request_bytes
from agent.wire.h1_body import LAST_CHUNK, chunk, last_chunk

if TYPE_CHECKING:
    from agent.proxy.upstream import UpstreamConnection

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
"""Methods that may be sent twice (RFC 9110, section 9.2.2)."""


class Sending(Ending):
    """The half of an exchange that faces its target; `Exchange` completes it to a `Requester`."""

    __slots__ = ()

    def _forward(self, now: float) -> None:
        plan, head = self.plan, self.head
        if plan.is_plain and head.content_length == 0:  # most requests
            self.replayable = head.method in IDEMPOTENT and not head.upgrade
            self._cluster = plan.cluster
            self._try(now)
            return
        if plan.body_bytes and head.content_length > plan.body_bytes:
            self.fail("body_too_large", f"{head.content_length} bytes, the limit is {plan.body_bytes}")
            return
        retry = plan.retry
        if retry is not None:
            self.replayable = retry.replayable(head)
            retry.budget.on_request(now)
        else:
            self.replayable = head.method in IDEMPOTENT and not head.upgrade
        if plan.rewrite is not None:
            plan.rewrite.apply(head)
        self._cluster = plan.cluster if plan.choose is None else plan.choose(head)
        if self._cluster is None:
            self.fail("no_route", "there is neither an application nor an upstream for this route")
            return
        if plan.mirror is None:
            self._try(now)
            return
        early = self._pieces.copy()  # came while the request waited; sending may let go of it
        self.sent_at = now  # the copy may go before the original has a connection
        self._try(now)
        if not self.is_over:
            try:
                self._mirror = plan.mirror.begin(self, early)
            except Exception as error:  # noqa: BLE001  whatever it is, the original goes on
                self.context.report("mirror", error)

    def _try(self, now: float, *, fresh: bool = False) -> None:
        """Send the request to a target: on a pooled connection at once, else as soon as there is one.

        `fresh` wants a new connection: where one of the pool was stale, the others may be too.
        """
        plan, cluster = self.plan, self._cluster
        assert cluster is not None
        target = cluster.only or cluster.pick(self.head, now, self._tried)
        if target is None:
            self.fail("no_healthy_target", f"upstream {cluster.name}")
            return
        self.target = target
        self.target_name = target.name
        target.in_flight += 1
        self.tries += 1
        if plan.retry is not None:
            self.client.set_deadline(plan.retry.try_deadline(now, self.deadline))
        connection = None if fresh else target.pool.take(now, replayable=self.replayable)
        if connection is not None:
            self._send(connection, now)
        else:
            if not self.request_done:
                self.client.pause_reading()
            self.awaiting = self.tries
            task = target.pool.open_for(self, self.tries)  # type: ignore[arg-type]  # see the class
            if task is not None:  # else it may have failed already, and wait for another try
                self._wait = task

    def attach(self, connection: "UpstreamConnection") -> None:
        """Take a connection that was waited for, and send what there is of the request."""
        self.awaiting = 0
        self._wait = None
        self._send(connection, self.context.clock())

    def _send(self, connection: "UpstreamConnection", now: float) -> None:
        target = self.target
        assert target is not None
        self.connection = connection
        self.sent_at = now
        data = request_bytes(self, target.pool.authority)
        if self._pieces:
            data = b"".join((data, *self._pieces))
            self._trim()
        if not self.request_done:
            self.client.resume_reading()  # first: sending may fill the connection, which stops it again
            self.client.set_deadline(self._upload_until(now))
        connection.send(self, data)  # type: ignore[arg-type]  # see the class

    def on_body(self, piece: bytes, done: bool, trailers: list[bytes] | None = None) -> None:
        """Take a piece of the request's body as it came from the client."""
        self.bytes_in += len(piece)
        limit = self.plan.body_bytes
        if limit and self.bytes_in > limit:
            self.fail("body_too_large", f"more than {limit} bytes")
            return
        if self.head.chunked:
            piece = chunk(piece) if piece else b""
            if done:
                forward = self.context.limits.trailers == "forward"
                piece += last_chunk(self.client.surface.trailers(trailers or [])) if forward else LAST_CHUNK
        if done:
            self.request_done = True
        if self.response_started:
            self.client.relaying(self.quiet_until(self.context.clock()))
        else:
            self._body_moved(done)
        if self._mirror is not None:
            self._mirror.feed(piece, done)
        if not piece:
            return
        if self.connection is None:
            self._pieces.append(piece)
            self.client.pause_reading()
            return
        self.connection.transport.write(piece)
        if self.body_kept:
            self._pieces.append(piece)
            self._trim()

    def _body_moved(self, done: bool) -> None:
        """While the body comes only its silence counts; the route's time begins when it is complete."""
        now = self.context.clock()
        if done:
            self.deadline = until = self.plan.timeouts.deadline(self.head, now, self.started)
            self.hurried = self.plan.timeouts.is_hurry(until - now)
            retry = self.plan.retry
            if retry is not None and (self.connection is not None or self.awaiting):
                until = retry.try_deadline(now, until)
            self.client.set_deadline(until)
        elif self.connection is not None:
            self.client.set_deadline(self._upload_until(now))

    def _upload_until(self, now: float) -> float:
        """When to cut a request's body of which nothing moves from now on."""
        return min(now + self.context.limits.body_timeout_s, self.ends_at())

    def _trim(self) -> None:
        """Keep what was sent of the body only while another try could need it."""
        retry = self.plan.retry
        limit = 65536 if retry is None else retry.replay_bytes
        if not self.replayable or sum(map(len, self._pieces)) > limit:
            self._pieces = []
            self.body_kept = False

    def upstream_is_full(self) -> None:
        """The upstream takes no more for now: stop reading the client."""
        self.client.pause_reading()

    def upstream_has_room(self) -> None:
        """Go on reading the client."""
        self.client.resume_reading()

    def connect_failed(self, code: str, why: str) -> None:
        """No connection could be made for the try that awaits one."""
        self.awaiting = 0
        self._wait = None
        self._try_failed(code, why)

    def upstream_failed(self, code: str, why: str) -> None:
        """The connection broke, or its bytes made no sense."""
        connection, self.connection = self.connection, None
        if self.is_over:
            return
        if self.response_started:
            self.code, self.why = code, why
            self._target_done(ok=False)
            self._abort()
            return
        if code == "upstream_closed" and connection is not None and connection.was_stale and self._may_replay_stale():
            self._stale_used = True
            self.tries -= 1
            self.resends += 1
            self._target_done(ok=None)
            self._try(self.context.clock(), fresh=True)
            return
        self._try_failed(code, why)

    def _may_replay_stale(self) -> bool:
        """Whether to forgive a pooled connection that closed before a byte of its answer: it was closing already."""
        return self.replayable and self.body_kept and not self._stale_used

    def _try_failed(self, code: str, why: str) -> None:
        self._target_done(ok=False)
        now = self.context.clock()
        retry = self.plan.retry
        if retry is not None and (cause := CAUSES.get(code)) is not None:
            pause_s = retry.after(self, cause, now)
            if pause_s is not None:
                self._retry_in(pause_s)
                return
        self.fail(code, why)

    def _retry_in(self, pause_s: float) -> None:
        self.client.set_deadline(self.deadline)
        self._wait = spawn(self._pause(pause_s), name="retry", on_error=self._defect)

    async def _pause(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        self._wait = None
        if not self.is_over:
            self.resends += 1
            self._try(self.context.clock())

    def on_deadline(self, now: float) -> None:
        """The client's deadline has come while this exchange is under way."""
        too_long = "the exchange took longer than max_duration_s"
        if self.response_started:
            self.code, self.why = "timeout", too_long if now >= self.ends_at() else "nothing moved for idle_timeout_s"
            self._target_done(ok=False)
            self._abort()
        elif not self.request_done and self.connection is not None:
            if now >= self.ends_at():
                self.cancelled = not self.client.is_held  # its client took so long: no failure of the application
                self.head.keep_alive = False
                self.fail("timeout", too_long)
            elif self.client.is_held:
                self._target_done(ok=False)
                self.fail("timeout", "the application stopped reading the request's body")
            else:
                self.context.cells.timeouts.at("body")[0] += 1
                self.head.keep_alive = False  # what comes later may be the rest of this body, or the next request
                self.fail("request_timeout", "the request's body stopped coming")
        else:
            self.awaiting = 0
            self._stop_waiting()
            self._drop_connection()
            if now < self.deadline:
                self._try_failed("timeout", "no answer within per_try_timeout_s")
            elif self.hurried:
                self.cancelled = True
                self._target_done(ok=None)
                self.fail("timeout", "no answer by the client's own deadline, too early to blame the application")
            else:
                self._target_done(ok=False)
                self.fail("timeout", f"no answer within {self.plan.timeouts.timeout_s:g} s")
