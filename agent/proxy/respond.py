"""The answer's head as the client gets it: framing and connection fields are ours, the rest is the application's."""

from typing import TYPE_CHECKING

from agent.wire.fields import lines_without
from agent.wire.head import ResponseHead
from agent.wire.problem import PHRASES

if TYPE_CHECKING:
    from agent.proxy.ending import Ending
    from agent.proxy.plan import Plan

_STATUS_LINES: dict[int, bytes] = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, phrase) for status, phrase in PHRASES.items()
}
_ORIGIN = {name: b"x-outrigger-origin: %b\r\n" % name.encode() for name in ("app", "upstream", "agent")}


def response_parts(exchange: "Ending", response: ResponseHead, done: bool) -> tuple[list[bytes], bool]:
    """The head to send in parts, the blank line last, and whether the body that follows is to be chunked.

    Decides whether the client's connection is kept: where the body ends with the connection, where the request isn't
    complete yet, or where we drain, it is closed after this answer.
    """
    head, client, plan = exchange.head, exchange.client, exchange.plan
    fields, status, joined = response.fields, response.status, response.joined
    if plan.drop_from_response or plan.rewrite is not None:
        joined = b"".join([line + b"\r\n" for line in _changed(response.lines, plan)])
    keep = head.keep_alive and exchange.request_done and not client.surface.draining
    chunked = False
    framing = b""
    if response.content_length >= 0:
        if status != 204 and b"content-length" in fields:
            framing = b"content-length: " + fields[b"content-length"] + b"\r\n"
    elif response.chunked or not done:
        chunked = head.minor == 1 and head.method != b"HEAD"
        framing = b"transfer-encoding: chunked\r\n" if head.minor == 1 else b""
        keep = keep and (head.minor == 1 or head.method == b"HEAD")
    client.will_keep = keep
    extra = head.response_extra
    if b"date" not in fields:
        extra += exchange.context.date_line(exchange.context.wall())
    return [
        _STATUS_LINES.get(status) or b"HTTP/1.1 %d %b\r\n" % (status, response.reason),
        joined,
        framing,
        extra,
        _ORIGIN[exchange.origin],
        b"\r\n" if keep and head.minor == 1 and status != 101 else _connection(response, keep),
    ], chunked


def _changed(lines: list[bytes], plan: "Plan") -> list[bytes]:
    drop = plan.drop_from_response
    if drop:
        lines = lines_without(lines, drop)
    return lines if plan.rewrite is None else plan.rewrite.response_lines(lines)


def _connection(response: ResponseHead, keep: bool) -> bytes:
    if response.status == 101:
        return b"connection: upgrade\r\nupgrade: %b\r\n\r\n" % response.fields[b"upgrade"]
    return b"connection: keep-alive\r\n\r\n" if keep else b"connection: close\r\n\r\n"
