"""How an exchange ends: the state of one request, and the ways out, of which it takes exactly one.

By a complete answer, a refusal, a failure, or the client's departure: `_finish` runs once, tells the policies that
learn, and leaves one record in metrics and log.
"""

import asyncio
from typing import TYPE_CHECKING

from agent.proxy.plan import Plan
from agent.proxy.refusals import REFUSALS
from agent.telemetry.access_log import DRAIN_DEADLINE
from agent.wire.head import RequestHead
from agent.wire.problem import Refusal

if TYPE_CHECKING:
    from agent.proxy.cluster import Cluster, Target
    from agent.proxy.downstream import Downstream
    from agent.proxy.mirror import Mirror
    from agent.proxy.upstream import UpstreamConnection

CLIENT_GONE = 499
"""Status in logs and metrics of a request whose client left before its answer; never sent (nginx's convention)."""
_CUT_OFF = 503
"""The same for a request that the end of the process cut off before its answer: the client saw a failure of ours."""


class Ending:
    """State of one request. Satisfies `agent.ports.policy.Outcome` and `agent.policies.retry.Sent`."""

    __slots__ = (
        "_chunked_out", "_cluster", "_mirror", "_passed", "_pieces", "_stale_used", "_tried", "_wait", "awaiting",
        "body_kept", "bytes_in", "bytes_out", "cancelled", "client", "code", "connection", "context", "deadline",
        "head", "hurried", "is_over", "origin", "path", "plan", "replayable", "request_done", "resends",
        "response_started", "sent_at", "started", "status", "target", "target_name", "tries", "upstream_s", "why",
    )  # fmt: skip

    connection: "UpstreamConnection | None"
    target: "Target | None"
    sent_at: float
    """When the last try was written to its connection, in monotonic seconds; `started` before there is one."""
    _tried: "list[Target] | None"
    _wait: "asyncio.Task[None] | None"
    _mirror: "Mirror | None"
    _cluster: "Cluster | None"
    _pieces: list[bytes]
    plan: Plan
    """The route's, from the moment that the head is matched."""
    deadline: float
    """Monotonic seconds by which the response's head has to be there."""
    hurried: bool
    """The client left so little time that missing the deadline says nothing about the target."""

    def __init__(self, client: "Downstream", head: RequestHead, now: float) -> None:
        self.client = client
        self.context = client.context
        self.head = head
        self.started = self.sent_at = now
        self.path = head.path
        self.request_done = head.content_length == 0
        self._pieces = []
        self.body_kept = True
        self.upstream_s = -1.0
        self.origin = "agent"
        # One object per request: chains of equal values are what costs least.
        self.code = self.why = self.target_name = ""
        self.status = self.bytes_in = self.bytes_out = self.tries = self.resends = self.awaiting = self._passed = 0
        self.connection = self.target = self._tried = self._wait = self._mirror = self._cluster = None
        self.cancelled = self.is_over = self.response_started = self.replayable = False
        self._stale_used = self._chunked_out = self.hurried = False

    def ends_at(self) -> float:
        """When the whole exchange has to be over, streaming included."""
        return self.started + self.plan.timeouts.max_duration_s

    def quiet_until(self, now: float) -> float:
        """When to cut a stream of which nothing moves from now on."""
        return min(now + self.plan.timeouts.idle_s, self.ends_at())

    def refuse(self, refusal: Refusal, extra: bytes = b"") -> None:
        """Answer with a prebuilt refusal and end here."""
        self.status, self.code = refusal.status, refusal.code
        self.origin = "agent"
        context, head, client = self.context, self.head, self.client
        close = not head.keep_alive or client.surface.draining or not (self.request_done or client.can_skip_body())
        close = close or refusal.status == 408  # what is late may still come (RFC 9110, section 15.5.9)
        extra = head.response_extra + extra + context.date_line(context.wall())
        if not close and head.minor == 0:
            extra += b"connection: keep-alive\r\n"
        self.bytes_out = 0 if head.method == b"HEAD" else len(refusal.body)
        self._drop_connection()
        client.write(refusal.render(extra=extra, close=close, with_body=head.method != b"HEAD"))
        self._finish(context.clock(), close=close)

    def fail(self, code: str, why: str) -> None:
        """End with a failure of our own making: a problem where no byte of an answer was sent, else a cut."""
        self.code, self.why = code, why
        if self.response_started:
            self._abort()
        else:
            self.refuse(REFUSALS[code])

    def cancel(self) -> None:
        """The client is gone."""
        if not self.is_over:
            self.cancelled = True
            self.code = self.code or "client_gone"
            self.status = self.status or CLIENT_GONE
            self._abort()

    def cut(self) -> None:
        """The process ends before this exchange does."""
        self.code, self.why = DRAIN_DEADLINE, "drain_s had passed, or a further signal came, before it was complete"
        if self.status == 101:  # the tunnel keeps the books
            self.client.abort()
            return
        self.status = self.status or _CUT_OFF
        self.cancel()

    def _defect(self, where: str, error: BaseException) -> None:
        """A policy or fetcher failed in a way that it must not: fail closed."""
        self._wait = None
        self.context.report(where, error)
        if not self.is_over:
            self.fail("internal", repr(error))

    def _target_done(self, ok: bool | None) -> None:
        """Tell the balancer how a try went; `ok` is None where it says nothing about the target."""
        target, self.target = self.target, None
        if target is not None:
            target.end(ok, self.upstream_s, self.context.clock(), gateway=ok is False)
            if ok is False and target.has_siblings:
                self._tried = [*(self._tried or ()), target]

    def _abort(self) -> None:
        """The client can't be given a complete answer: cut it off, so that it can't take the part for the whole."""
        self._drop_connection()
        # A body of HTTP/1.0 ends with the connection: there only a reset tells a cut from the end.
        self.client.abort(reset=self.head.minor == 0)
        self._finish(self.context.clock(), close=True)

    def _drop_connection(self, *, reuse: bool = False) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            if reuse and self.request_done:
                connection.release(self.context.clock())
            else:
                connection.discard()

    def _stop_waiting(self) -> None:
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.cancel()

    def _finish(self, now: float, *, close: bool) -> None:
        self.is_over = True
        if self._wait is not None:
            self._stop_waiting()
        if self.target is not None:
            self._target_done(ok=None)
        self.awaiting = 0
        if self._mirror is not None:
            self._mirror.abandon()
        plan = self.plan
        for place, on_response, policy in plan.observers:
            if place < self._passed:
                try:
                    on_response(self.head, self, now)
                except Exception as error:  # noqa: BLE001  the others must hear of it all the same
                    self.context.report(policy.name, error)
        plan.recorder.record(self, now)
        if plan.log:
            self.context.log(self, now)
        self.context.in_flight -= 1
        self.client.exchange_over(now, close=close)
