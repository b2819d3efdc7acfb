"""Request heads for tests of what never sees bytes."""

from agent.core.identity import Identity
from agent.wire.head import RequestHead


def request_head(
    method: bytes = b"GET",
    path: bytes = b"/",
    *,
    query: bytes = b"",
    fields: dict[bytes, bytes] | None = None,
    host: bytes = b"localhost",
    peer: str = "127.0.0.1",
    client_ip: str = "",
    identity: Identity | None = None,
    content_length: int = 0,
    minor: int = 1,
) -> RequestHead:
    """Make a head from its parts."""
    head = RequestHead()
    head.method, head.target, head.path, head.query = method, path, path, query
    head.minor, head.host, head.fields = minor, host, dict(fields or {})
    head.lines = [name + b": " + value for name, value in head.fields.items()]
    head.joined = b"".join(line + b"\r\n" for line in head.lines)
    head.content_length, head.chunked = content_length, content_length < 0
    head.keep_alive, head.expect_continue, head.upgrade = True, False, b""
    head.scheme, head.peer, head.client_ip = b"http", peer, client_ip or peer
    head.identity, head.request_extra, head.response_extra = identity, b"", b""
    head.shadow, head.route, head.trace = "", "", None
    return head
