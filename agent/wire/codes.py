"""The stable codes of every answer that the sidecar makes itself. One table: the reference page is made from it."""

from typing import NamedTuple


class Code(NamedTuple):
    """One way in which the sidecar answers by itself."""

    status: int
    code: str
    title: str
    meaning: str
    """What happened and what would be right, for the reader of `docs/reference/codes.md`."""


TABLE: tuple[Code, ...] = (
    Code(
        400,
        "malformed_request",
        "Malformed request",
        "The bytes are no HTTP/1.1 request with exactly one meaning (RFC 9112): framing, line ends, a header's grammar. The connection is closed.",
    ),
    Code(
        400,
        "bad_path",
        "Ambiguous path",
        "The path can be read in two ways (encoded slash or dot, backslash, dot segments above the root, control characters), or the query, in which a parameter that routes look at has several values. Send the normalised path.",
    ),
    Code(
        400,
        "bad_host",
        "Bad Host",
        "Host is missing, repeated, malformed, or differs from the absolute-form target (RFC 9112, section 3.2).",
    ),
    Code(
        400,
        "bad_body",
        "Body refused",
        "The body of a call to the admin or local API is no JSON, or not of the form that the endpoint's description gives; `detail` says what is wrong.",
    ),
    Code(
        401,
        "token_missing",
        "Token required",
        "The route needs a token and none was sent. Send `Authorization: Bearer …` (RFC 6750).",
    ),
    Code(
        401,
        "token_invalid",
        "Token refused",
        "The token's signature, issuer, audience, times or form are not acceptable; the log line's `why` says which.",
    ),
    Code(401, "token_expired", "Token expired", "The token was good once; its `exp` has passed. Get a new one."),
    Code(
        403,
        "role_missing",
        "Role missing",
        "The token is good but carries none of the roles that the route asks for.",
    ),
    Code(
        403,
        "scope_missing",
        "Scope missing",
        "The token is good but its scope doesn't cover what the route asks for (RFC 6750, `insufficient_scope`).",
    ),
    Code(
        403,
        "route_denied",
        "Route closed",
        "The route is closed to everybody (`auth: deny`), whatever token they have.",
    ),
    Code(403, "ip_denied", "Address refused", "The client's address is denied, or isn't among those allowed."),
    Code(
        403,
        "cors_denied",
        "Origin refused",
        "The preflight asks for an origin, method or header that the route's CORS policy doesn't allow.",
    ),
    Code(
        403,
        "host_refused",
        "Host refused",
        "The admin and local API answer only to IP addresses, `localhost` and configured names, so that no web page can reach them by DNS rebinding.",
    ),
    Code(
        403,
        "cross_site",
        "Cross-site request refused",
        "A web page of another site tried to change something through the reader's browser (`Sec-Fetch-Site`).",
    ),
    Code(
        403,
        "unknown_upstream",
        "Unknown upstream",
        "The outbound proxy leads only to configured upstreams; it is no open proxy. Add the upstream to the configuration.",
    ),
    Code(404, "no_route", "No route", "No route and no application is configured for this request."),
    Code(
        404,
        "not_found",
        "Not found",
        "The admin or local API has no such endpoint; `GET /` of the admin API lists them.",
    ),
    Code(405, "method_not_supported", "Method not supported", "CONNECT and TRACE are never forwarded."),
    Code(
        405,
        "method_not_allowed",
        "Method not allowed",
        "The endpoint of the admin or local API exists, but not for this method; `Allow` names those it has.",
    ),
    Code(408, "request_timeout", "Request timeout", "The request's head or body did not arrive in time."),
    Code(
        409,
        "cannot_undo",
        "Can't be undone",
        '`DELETE /drain` after the end has been asked for (SIGTERM, SIGINT or `{"stop": true}`): the process ends.',
    ),
    Code(
        413,
        "body_too_large",
        "Body too large",
        "The body exceeds the route's or the listener's limit (`limits.body_bytes`).",
    ),
    Code(
        414,
        "target_too_long",
        "Target too long",
        "The request target exceeds the limit of the head (`limits.head_bytes`).",
    ),
    Code(
        415,
        "not_json",
        "JSON needed",
        "Calls that change something need `Content-Type: application/json`, which no foreign web page can send unasked.",
    ),
    Code(
        429,
        "rate_limited",
        "Rate limit reached",
        "The limit that `RateLimit-Policy` names is used up; `Retry-After` says when to come back.",
    ),
    Code(
        431,
        "head_too_large",
        "Head too large",
        "The head exceeds `limits.head_bytes` or `limits.head_fields`.",
    ),
    Code(
        500,
        "internal",
        "Internal error",
        "A defect of the sidecar. The log has a line with the same trace id.",
    ),
    Code(
        501,
        "unsupported",
        "Unsupported",
        "The building block isn't configured, or its backend doesn't declare this capability; `GET /v1/capabilities` says what there is.",
    ),
    Code(
        502,
        "upstream_closed",
        "Connection closed",
        "The application closed the connection before its answer was complete.",
    ),
    Code(
        502,
        "upstream_garbage",
        "Malformed answer",
        "The application answered something that is no HTTP/1.1 response with one meaning.",
    ),
    Code(502, "upstream_tls", "TLS failure", "The upstream's certificate or handshake was refused."),
    Code(
        503,
        "upstream_unreachable",
        "Application unreachable",
        "No connection could be made: refused, no route, or the name didn't resolve.",
    ),
    Code(
        503,
        "circuit_open",
        "Circuit open",
        "The circuit breaker is open after too many failures; `Retry-After` says when it tries again.",
    ),
    Code(
        503,
        "overloaded",
        "Overloaded",
        "All slots for requests in flight are taken and the queue is full, or waiting took too long.",
    ),
    Code(503, "no_healthy_target", "No healthy target", "Every target of the upstream is ejected or unknown."),
    Code(
        503,
        "draining",
        "Shutting down",
        "The sidecar is draining; the client should open a new connection, to another replica.",
    ),
    Code(
        503,
        "connection_limit",
        "Too many connections",
        "The listener holds as many connections as `limits.connections` allows.",
    ),
    Code(
        503,
        "keys_unavailable",
        "Keys unavailable",
        "The issuer's keys could not be had yet, so no token can be judged. Fails closed.",
    ),
    Code(
        504,
        "timeout",
        "Timeout",
        "The application gave no answer within the route's `timeout_s`, retries included.",
    ),
    Code(
        504,
        "connect_timeout",
        "Connect timeout",
        "No connection to the application or upstream within `connect_timeout_s`.",
    ),
)

BY_CODE: dict[str, Code] = {row.code: row for row in TABLE}
