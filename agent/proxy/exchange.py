"""One request and its answer: judged, sent on, relayed, and remembered.

The straight path runs in two callbacks: the client's bytes are parsed, judged and written upstream in one; the answer's
bytes are parsed and written to the client in the other. A task exists only while something has to be waited for.
"""

from typing import TYPE_CHECKING

from agent.core.tasks import spawn
from agent.policies.retry import parse_retry_after
from agent.policies.timeout import DEADLINE_FIELD
from agent.ports.policy import Deny, Need
from agent.proxy.respond import response_parts
from agent.proxy.sending import Sending
from agent.proxy.tunnel import Tunnel
from agent.telemetry.trace_context import begin
from agent.wire.fields import RESPONSE_RULES
from agent.wire.h1_body import LAST_CHUNK, chunk, last_chunk
from agent.wire.head import ResponseHead

if TYPE_CHECKING:
    from agent.proxy.upstream import UpstreamConnection


class Exchange(Sending):
    """One request, from its head to the last byte of its answer."""

    __slots__ = ()

    def start(self) -> None:
        """Match a route and begin to ask its policies."""
        head, context, client = self.head, self.context, self.client
        fields = head.fields
        head.trace = begin(
            fields.get(b"traceparent"),
            fields.get(b"tracestate"),
            context.trust_sampled,
            context.sample_ratio,
            context.rand,
        )
        self.plan = plan = client.route(head)
        head.route = plan.name
        now, timeouts = self.started, plan.timeouts
        if DEADLINE_FIELD in fields:
            deadline = timeouts.deadline(head, now)
            self.hurried = timeouts.is_hurry(deadline - now)
        else:
            deadline = now + timeouts.first_s
        self.deadline = client.deadline = deadline
        if deadline < client.wheel_at:
            context.watch(client)
        try:
            self._judge(now)
        except Exception as error:  # noqa: BLE001  a defect of ours refuses the request: fail closed
            self._defect("policy", error)

    def _judge(self, now: float) -> None:
        checks = self.plan.checks
        head = self.head
        place = self._passed
        for check in checks[place:] if place else checks:
            verdict = check(head, now)
            if verdict is not None:
                self._passed = place
                self._stopped(verdict)
                return
            place += 1
        self._passed = place
        self._forward(now)

    def _stopped(self, verdict: Deny | Need) -> None:
        if isinstance(verdict, Deny):
            self.why = verdict.why
            self.refuse(verdict.refusal, verdict.extra)
        else:
            self._wait = spawn(self._park(verdict), name="need", on_error=self._defect)

    async def _park(self, need: Need) -> None:
        """Hold this one request until the fact is there, then ask the same policy again."""
        await need.fact.fetch()
        self._wait = None
        if not self.is_over:
            self._judge(self.context.clock())

    def interim(self, response: ResponseHead) -> None:
        """Pass on a 1xx (RFC 9110, section 15.2); HTTP/1.0 clients don't know them."""
        if self.head.minor == 1 and not self.response_started:
            lines = b"".join(line + b"\r\n" for line in response.lines)
            self.client.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (response.status, response.reason, lines))

    def respond(self, response: ResponseHead, piece: bytes, done: bool) -> None:
        """The answer's head, and as much of its body as came with it."""
        now = self.context.clock()
        self.upstream_s = now - self.sent_at
        status = response.status
        retry = self.plan.retry
        if retry is not None and retry.wants(status):
            after_s = -1.0
            if (value := response.fields.get(b"retry-after")) is not None:
                after_s = parse_retry_after(value, self.context.wall())
            pause_s = retry.after(self, status, now, after_s)
            if pause_s is not None:
                self._drop_connection(reuse=done)
                self._target_done(ok=False)
                self._retry_in(pause_s)
                return
        self.status = status
        self.origin = self.target.origin if self.target is not None else "app"
        self.response_started = True
        parts, chunked = response_parts(self, response, done)
        if piece:
            self.bytes_out += len(piece)
            parts.append(chunk(piece) if chunked else piece)
        if done:
            if chunked:
                parts.append(self._last_chunk())
            self.client.transport.write(b"".join(parts))
            self._complete(now)
            return
        self._chunked_out = chunked
        self.client.write(b"".join(parts))
        self.client.relaying(self.quiet_until(now))

    def respond_more(self, piece: bytes, done: bool) -> None:
        """A further piece of the answer's body."""
        client = self.client
        if piece:
            self.bytes_out += len(piece)
            client.write(chunk(piece) if self._chunked_out else piece)
        if done:
            if self._chunked_out:
                client.write(self._last_chunk())
            self._complete(self.context.clock())
        else:
            client.relaying(self.quiet_until(self.context.clock()))

    def _last_chunk(self) -> bytes:
        """The end of a chunked answer, with the trailer fields that would be forwarded as header fields."""
        connection = self.connection
        if connection is None or not connection.trailers or self.context.limits.trailers == "drop":
            return LAST_CHUNK
        return last_chunk([line for line in connection.trailers if RESPONSE_RULES.read(line)[2][1]])

    def switch_protocols(self, connection: "UpstreamConnection", response: ResponseHead, rest: bytes) -> None:
        """101: from here on bytes are moved and not read."""
        if not self.head.upgrade or response.upgrade != self.head.upgrade:
            connection.discard()
            self.upstream_failed("upstream_garbage", "101 for a protocol that wasn't asked for")
            return
        now = self.context.clock()
        self.upstream_s = now - self.sent_at
        self.status, self.response_started = 101, True
        self.origin = self.target.origin if self.target is not None else "app"
        parts, _ = response_parts(self, response, done=True)
        self.client.write(b"".join((*parts, rest)))
        self.bytes_out += len(rest)
        Tunnel(self, connection).begin()

    def tunnel_closed(self, bytes_in: int, bytes_out: int) -> None:
        """Both directions of the tunnel are over."""
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.connection = None
        self._target_done(ok=True)
        if not self.is_over:
            self._finish(self.context.clock(), close=True)

    def _complete(self, now: float) -> None:
        """The answer is complete; the request may not be, and then its connections can't be used again."""
        connection = self.connection
        self.connection = None
        if connection is not None:
            if self.request_done:
                connection.release(now)
            else:
                connection.discard()
        target, self.target = self.target, None
        if target is not None:
            status = self.status
            target.end(status < 500, self.upstream_s, now, 502 <= status <= 504)
        self._finish(now, close=not self.client.will_keep)
