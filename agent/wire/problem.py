"""Prebuilt answers of the sidecar's own making: RFC 9457 problems with a stable code, rendered once."""

import json

from agent.wire.codes import BY_CODE

PHRASES: dict[int, bytes] = {
    200: b"OK", 202: b"Accepted", 204: b"No Content", 304: b"Not Modified", 400: b"Bad Request",
    401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed",
    408: b"Request Timeout", 409: b"Conflict", 412: b"Precondition Failed", 413: b"Content Too Large",
    414: b"URI Too Long", 415: b"Unsupported Media Type", 417: b"Expectation Failed",
    422: b"Unprocessable Content", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway",
    503: b"Service Unavailable", 504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
}  # fmt: skip


def problem_body(code: str, *, status: int = 0, detail: str = "") -> bytes:
    """The document of RFC 9457 for `code` of `agent.wire.codes`, on every surface the same."""
    row = BY_CODE[code]
    problem = {"type": "about:blank", "title": row.title, "status": status or row.status, "code": code}
    if detail:
        problem["detail"] = detail
    return json.dumps(problem, separators=(",", ":")).encode()


class Refusal:
    """An answer that ends a request, as bytes made once.

    `head` runs from the status line up to (not including) the `Connection` field and the blank line, so that one
    `bytes` concatenation per answer completes it.
    """

    __slots__ = ("body", "code", "head", "status")

    def __init__(self, code: str, *, status: int = 0, detail: str = "", lines: bytes = b"") -> None:
        """Prepare the answer for `code` of `agent.wire.codes`.

        `status` overrides the table's; `detail` is told to the client; `lines` are further header lines, each ending
        in CRLF.
        """
        self.code = code
        self.status = status or BY_CODE[code].status
        self.body = problem_body(code, status=self.status, detail=detail)
        self.head = (
            b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n"
            b"x-outrigger-origin: agent\r\nx-outrigger-reason: %s\r\n%s"
            % (self.status, PHRASES.get(self.status, b"Refused"), len(self.body), code.encode(), lines)
        )

    def render(self, *, extra: bytes = b"", close: bool = False, with_body: bool = True) -> bytes:
        """The whole answer. `extra`: header lines of this one answer; `with_body` is false for HEAD."""
        connection = b"connection: close\r\n\r\n" if close else b"\r\n"
        if with_body:
            return self.head + extra + connection + self.body
        return self.head + extra + connection


class EmptyAnswer(Refusal):
    """An answer without a body that isn't a problem: a CORS preflight's 204."""

    __slots__ = ()

    def __init__(self, code: str, status: int, lines: bytes = b"") -> None:
        self.code = code
        self.status = status
        self.body = b""
        self.head = b"HTTP/1.1 %d %s\r\nx-outrigger-origin: agent\r\n%s" % (status, PHRASES[status], lines)
