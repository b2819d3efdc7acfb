"""A parsed request or response head. Field names are lower-case bytes; nothing here touches a socket."""

from typing import Any

from agent.core.identity import Identity


class RequestHead:
    """One request's head, and what policies learn about it on its way.

    One object per request, so slots and no properties. Everything up to `peer` is set by the parser and the
    listener before any policy runs and is never changed after; the rest is filled in by the part that is named.
    """

    __slots__ = (
        "chunked",
        "client_ip",
        "content_length",
        "expect_continue",
        "fields",
        "host",
        "identity",
        "joined",
        "keep_alive",
        "lines",
        "method",
        "minor",
        "path",
        "peer",
        "query",
        "request_extra",
        "response_extra",
        "route",
        "scheme",
        "shadow",
        "shadow_why",
        "target",
        "trace",
        "upgrade",
    )

    method: bytes
    """Upper-case method, for example ``b"GET"``."""
    target: bytes
    """The request target as it was received (origin-form, absolute-form or ``*``): for error messages only."""
    path: bytes
    """The normalised path: what rules match is exactly what is forwarded (see `agent.wire.path`)."""
    query: bytes
    """Without the question mark; ``b""`` where there is none. Never normalised."""
    minor: int
    """1 for HTTP/1.1, 0 for HTTP/1.0."""
    host: bytes
    """Lower-case host without the port, from the absolute-form target or Host; ``b""`` if HTTP/1.0 sent none."""
    fields: dict[bytes, bytes]
    """Lower-case name → value without outer white space; repeated fields joined by ``b", "`` (``b"; "`` for cookie)."""
    lines: list[bytes]
    """End-to-end field lines as they will be forwarded, each ``name: value`` without CRLF."""
    joined: bytes
    """`lines` with their line ends, ready to send; only what takes `lines` as they are may use it."""
    content_length: int
    """Bytes of the body, or -1 where the body is chunked; 0 where there is none."""
    chunked: bool
    keep_alive: bool
    """Whether the client wants the connection kept (RFC 9112, section 9.3)."""
    expect_continue: bool
    upgrade: bytes
    """Lower-case protocol that an `Upgrade` asks for, ``b""`` where none is asked or it may not be honoured."""
    scheme: bytes
    """``b"http"`` or ``b"https"``: how the client reached us, or what a trusted proxy said."""
    peer: str
    """Address of the socket's other end; ``"unix"`` for a Unix socket."""
    client_ip: str
    """The client's address: `peer`, or what trusted proxies reported."""

    identity: Identity | None
    """Set by the policy that authenticates."""
    request_extra: bytes
    """Header lines (each ending in CRLF) that policies add to the request on its way to the application."""
    response_extra: bytes
    """Header lines (each ending in CRLF) that policies add to the response, whoever makes it."""
    shadow: str
    """Code of the first refusal that a policy in shadow mode would have made; ``""`` if none."""
    shadow_why: str
    """For people: why. Only there where `shadow` names a refusal."""
    route: str
    """Name of the matched route, ``""`` before matching."""
    trace: Any
    """The request's trace context (see `agent.telemetry.trace_context`), None before it is made."""


class ResponseHead:
    """One response's head as the application or an upstream sent it."""

    __slots__ = (
        "chunked",
        "content_length",
        "fields",
        "joined",
        "keep_alive",
        "lines",
        "minor",
        "reason",
        "status",
        "upgrade",
    )

    status: int
    reason: bytes
    minor: int
    fields: dict[bytes, bytes]
    """As in `RequestHead.fields`, but `set-cookie` holds only the last one: cookies can't be joined."""
    lines: list[bytes]
    """End-to-end field lines, each ``name: value`` without CRLF; `set-cookie` lines all kept."""
    joined: bytes
    """`lines` with their line ends, ready to send."""
    content_length: int
    """Bytes of the body, -1 where the body is chunked, -2 where it ends with the connection."""
    chunked: bool
    keep_alive: bool
    upgrade: bytes
