"""The request as it goes on: written anew from the parsed head, never copied from what came in."""

from typing import TYPE_CHECKING

from agent.policies.timeout import Timeouts
from agent.wire.head import RequestHead

if TYPE_CHECKING:
    from agent.proxy.ending import Ending

_AT_ONCE_S = 0.001
"""A request sent within this time of its head has all of it left, as far as milliseconds can tell."""
_STRIPPED_TOKEN = b"authorization:"


def request_bytes(exchange: "Ending", authority: bytes) -> bytes:
    """The head to send, with its blank line. `authority` is the target's, where the client's Host isn't kept."""
    head, plan = exchange.head, exchange.plan
    fields, timeouts, joined = head.fields, plan.timeouts, head.joined
    if plan.changes_request:
        lines = head.lines
        if not plan.forward_token:
            lines = [line for line in lines if line[:14].lower() != _STRIPPED_TOKEN]
        joined = b"".join([line + b"\r\n" for line in lines])
    host = fields.get(b"host") if plan.host is None else plan.host
    target = head.path + b"?" + head.query if head.query else head.path
    return b"".join(
        (
            head.method,
            b" ",
            target,
            b" HTTP/1.1\r\nhost: ",
            host or authority,
            b"\r\n",
            joined,
            exchange.client.forwarded(head),
            _deadline(exchange, timeouts) if timeouts.forwards else b"",
            head.trace.header(),
            head.request_extra,
            _framing(head) if head.content_length or head.upgrade or b"content-length" in fields else b"",
            b"\r\n",
        )
    )


def _deadline(exchange: "Ending", timeouts: Timeouts) -> bytes:
    if exchange.sent_at - exchange.started < _AT_ONCE_S and exchange.deadline == exchange.started + timeouts.first_s:
        return timeouts.first_line
    return timeouts.deadline_line(exchange.deadline, exchange.sent_at)


def _framing(head: RequestHead) -> bytes:
    if head.upgrade:
        return b"connection: upgrade\r\nupgrade: %b\r\n" % head.fields[b"upgrade"]
    if head.chunked:
        return b"transfer-encoding: chunked\r\n"
    return b"content-length: %d\r\n" % head.content_length
