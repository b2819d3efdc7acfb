"""Bytes to whole requests for the control server: llhttp does the grammar, what it lets pass is refused here."""

from collections.abc import Callable
from typing import NamedTuple

import httptools

from agent.drivers.control_messages import ProblemError, Request

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_MAX_FIELDS = 100


class Limits(NamedTuple):
    """What a client may send, and how long it may take."""

    head_bytes: int = 16384
    body_bytes: int = 1048576
    pipelined: int = 16
    """Requests waiting on one connection while another is answered."""
    connections: int = 64
    idle_s: float = 75.0
    """Between two requests. Longer than the usual interval between scrapes."""
    request_s: float = 10.0
    """From the first byte of a request to its last."""
    handler_s: float = 30.0
    write_s: float = 10.0
    """For the client to take an answer."""


class RequestParser:
    """Fed with bytes, calls `on_request(request, keep_alive)` for each whole request.

    Raises ProblemError for whatever has no single meaning; the connection is of no use after that.
    """

    __slots__ = (
        "_body",
        "_fields",
        "_head_done",
        "_head_seen",
        "_limits",
        "_on_continue",
        "_on_request",
        "_parser",
        "_raw",
        "_size",
        "_url",
        "in_request",
    )

    def __init__(
        self,
        limits: Limits,
        on_request: Callable[[Request, bool], None],
        on_continue: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._on_request = on_request
        self._on_continue = on_continue
        self._parser = httptools.HttpRequestParser(self)
        self.in_request = False
        """Whether a request has begun and isn't complete."""
        self._raw = 0
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._fields: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._size = self._head_seen = 0
        self._head_done = False

    def feed(self, data: bytes) -> None:
        """Take what was read. Raises ProblemError."""
        self._raw += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # the request is with `on_request` already, and the last one of its connection
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, ProblemError):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            raise ProblemError("malformed_request", f"{error}.") from None
        if not self.in_request:
            self._raw = 0
        elif not self._head_done and self._raw > self._limits.head_bytes:
            raise ProblemError("head_too_large", f"The head exceeds {self._limits.head_bytes} bytes.")
        elif self._raw > self._limits.head_bytes + 8 * self._limits.body_bytes:
            raise ProblemError("malformed_request", "The chunks carry more framing than data.")

    # Called by httptools.

    def on_message_begin(self) -> None:  # noqa: D102
        self._reset()
        self.in_request = True

    def on_url(self, url: bytes) -> None:  # noqa: D102
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        if self._head_done:
            raise ProblemError("malformed_request", "Trailers aren't accepted here.")
        self._head_seen += len(name) + len(value) + 4
        if self._head_seen > self._limits.head_bytes or len(self._fields) >= _MAX_FIELDS:
            raise ProblemError(
                "head_too_large", f"At most {self._limits.head_bytes} bytes and {_MAX_FIELDS} header fields."
            )
        self._fields.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:  # noqa: D102
        self._head_done = True
        version = self._parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            raise ProblemError("malformed_request", f"HTTP/{version} isn't spoken here, only HTTP/1.1 and HTTP/1.0.")
        values: dict[str, list[str]] = {}
        for name, value in self._fields:
            values.setdefault(name, []).append(value)
        self._check_framing(values, version)
        if len(self._url) > self._limits.head_bytes:
            raise ProblemError("target_too_long")
        if values.get("expect", [""])[0].lower() == "100-continue" and version == "1.1":
            self._on_continue()

    def _check_framing(self, values: dict[str, list[str]], version: str) -> None:
        for name in ("host", "content-length", "transfer-encoding", "authorization", "content-type", "expect"):
            if len(values.get(name, ())) > 1:
                code = "bad_host" if name == "host" else "malformed_request"
                raise ProblemError(code, f"{name} is there more than once.")
        if version == "1.1" and "host" not in values:
            raise ProblemError("bad_host", "Host is missing (RFC 9112, section 3.2).")
        coding = values.get("transfer-encoding", [""])[0].lower()
        if coding and (coding != "chunked" or version == "1.0"):
            raise ProblemError("malformed_request", "The only transfer coding is chunked, and only in HTTP/1.1.")
        length = int(values.get("content-length", ["0"])[0])
        if length > self._limits.body_bytes:
            raise self._too_large()
        if (length or coding) and self._parser.should_upgrade():
            # llhttp ends the message at its head here: the body would be read as the next request.
            raise ProblemError("malformed_request", "Upgrade can't be combined with a body here.")

    def _too_large(self) -> ProblemError:
        return ProblemError("body_too_large", f"At most {self._limits.body_bytes} bytes.")

    def on_body(self, body: bytes) -> None:  # noqa: D102
        self._size += len(body)
        if self._size > self._limits.body_bytes:
            raise self._too_large()
        self._body.append(body)

    def on_message_complete(self) -> None:  # noqa: D102
        self.in_request = False
        self._raw = 0
        method, url = self._parser.get_method().decode(), self._url.decode("latin-1")
        if method not in _METHODS:
            raise ProblemError("method_not_supported", f"{method} isn't answered here.")
        if not url.startswith("/"):
            raise ProblemError("malformed_request", "The target must start with a slash.")
        path, _, query = url.partition("?")
        request = Request(method, path, query=query, fields=dict(self._fields), body=b"".join(self._body))
        # An offer to upgrade is ignored (RFC 9110, section 7.8; Java's client makes one on every connection).
        self._on_request(request, self._parser.should_keep_alive() and not self._parser.should_upgrade())
