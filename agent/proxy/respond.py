"""The answer's head as the client gets it: framing and connection fields are ours, the rest is the application's."""

from typing import TYPE_CHECKING

from agent.wire.head import ResponseHead
from agent.wire.problem import PHRASES

if TYPE_CHECKING:
    from agent.proxy.ending import Ending

_STATUS_LINES: dict[int, bytes] = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, phrase) for status, phrase in PHRASES.items()
}
_ORIGIN = {name: b"x-outrigger-origin: %b\r\n" % name.encode() for name in ("app", "upstream", "agent")}


def response_bytes(exchange: "Ending", response: ResponseHead, done: bool) -> tuple[bytes, bool]:
    """The head to send, up to and with its blank line, and whether the body that follows is to be chunked.

    Decides whether the client's connection is kept: where the body ends with the connection, where the request isn't
    complete yet, or where we drain, it is closed after this answer.
    """
    head, client, plan = exchange.head, exchange.client, exchange.plan
    lines = response.lines
    if plan.drop_from_response:
        drop = plan.drop_from_response
        lines = [line for line in lines if line[: line.index(b":")].lower() not in drop]
    length = response.content_length
    chunked = False
    if response.status == 304:
        framing = (
            b"content-length: %b\r\n" % response.fields[b"content-length"]
            if b"content-length" in response.fields
            else b""
        )
    elif length >= 0:
        has_none = length == 0 and (response.status == 204 or b"content-length" not in response.fields)
        framing = b"" if has_none else b"content-length: %d\r\n" % length
    elif response.chunked or not done:
        chunked = head.minor == 1 and head.method != b"HEAD"
        framing = b"transfer-encoding: chunked\r\n" if head.minor == 1 else b""
    else:
        framing = b""
    keep = head.keep_alive and exchange.request_done and not exchange.context.draining
    if length < 0 and head.minor == 0 and head.method != b"HEAD":
        keep = False
    client.will_keep = keep
    extra = head.response_extra
    if plan.rewrite is not None:
        lines = plan.rewrite.response_lines(lines)
    if b"date" not in response.fields:
        extra += exchange.context.date_line(exchange.context.wall())
    return (
        b"".join(
            (
                _STATUS_LINES.get(response.status) or b"HTTP/1.1 %d %b\r\n" % (response.status, response.reason),
                b"\r\n".join(lines),
                b"\r\n" if lines else b"",
                framing,
                extra,
                _ORIGIN[exchange.origin],
                _connection(response, keep, head.minor),
            )
        ),
        chunked,
    )


def _connection(response: ResponseHead, keep: bool, minor: int) -> bytes:
    if response.status == 101:
        return b"connection: upgrade\r\nupgrade: %b\r\n\r\n" % response.fields[b"upgrade"]
    if not keep:
        return b"connection: close\r\n\r\n"
    return b"\r\n" if minor == 1 else b"connection: keep-alive\r\n\r\n"
