"""A small strict HTTP/1.1 server for endpoints with little traffic on loopback: admin, and the local API's core."""

import asyncio
import hmac
import ipaddress
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

from agent.core.tasks import spawn
from agent.drivers.control_messages import Handler, ProblemError, Request, Response, Table, nothing_at, problem
from agent.drivers.control_parser import Limits, RequestParser

_LINGER_S = 1.0
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

LogError = Callable[[str, BaseException], None]
"""Called as `log(sentence, error)` for an error in a handler."""


class Gate:
    """Who may ask: Host against DNS rebinding, an optional token, and no changes by other sites' pages."""

    __slots__ = ("_hosts", "_open_paths", "_token")

    def __init__(self, *, hosts: Iterable[str] = (), token: str = "", open_paths: Iterable[str] = ()) -> None:
        """`hosts` are names accepted besides IP literals and localhost; `open_paths` need no token (probes)."""
        self._hosts = frozenset(name.lower().rstrip(".") for name in hosts)
        self._token = token.encode()
        self._open_paths = frozenset(open_paths)

    def check(self, request: Request) -> None:
        """Raises ProblemError where the request must not be answered."""
        fields = request.fields
        if "host" in fields and not self._is_known(fields["host"]):
            raise ProblemError(
                "host_refused", f"Host {fields['host']!r} is no IP address, not localhost and not configured."
            )
        if self._token and request.path not in self._open_paths:
            self._check_token(fields.get("authorization", ""))
        if request.method in _CHANGING:
            if fields.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
                raise ProblemError("cross_site")
            media = fields.get("content-type", "").partition(";")[0].strip().lower()
            if (request.method != "DELETE" or request.body) and media != "application/json":
                raise ProblemError("not_json", "Send Content-Type: application/json.")

    def _is_known(self, host: str) -> bool:
        name = host.strip().lower()
        if name.startswith("["):
            name, _, port = name[1:].partition("]")
            port = port.removeprefix(":")
        else:
            name, _, port = name.partition(":")
        if port and not (port.isascii() and port.isdigit()):
            return False
        name = name.removesuffix(".")
        if name == "localhost" or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _check_token(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        challenge = (("www-authenticate", "Bearer"),)
        if not token:
            raise ProblemError("token_missing", "Send Authorization: Bearer TOKEN.", fields=challenge)
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode("latin-1"), self._token):
            raise ProblemError("token_invalid", "That is not the configured token.", fields=challenge)


class ControlServer:
    """Serves one table of handlers. Start it once; `close` lets requests in flight finish."""

    def __init__(
        self,
        table: Table,
        *,
        name: str,
        gate: Gate,
        log_error: LogError,
        limits: Limits = Limits(),  # noqa: B008  a tuple
        missing: Callable[[str], ProblemError] = nothing_at,
    ) -> None:
        """`missing` makes the refusal of a path that isn't in `table`."""
        self.table = dict(table)
        self.name = name
        self.gate = gate
        self.log_error = log_error
        self.limits = limits
        self.missing = missing
        self.connections: dict[_Connection, None] = {}
        """In the order in which they were last idle, the longest first."""
        self._server: asyncio.Server | None = None

    async def start(self, bound: socket.socket) -> None:
        """Listen on a socket that is bound already: to a port, or to a Unix socket's path."""
        loop = asyncio.get_running_loop()
        make = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
        self._server = await make(lambda: _Connection(self), sock=bound, backlog=128)

    async def close(self, timeout_s: float = 5.0) -> None:
        """Accept nothing more, let requests in flight finish for at most `timeout_s`, then cut what is left."""
        if self._server is not None:
            self._server.close()
        busy = [connection.finish() for connection in list(self.connections)]
        if busy:
            await asyncio.wait(busy, timeout=timeout_s)
        for connection in list(self.connections):
            connection.abort()

    def has_room(self) -> bool:
        """Whether one more connection fits. The one that has idled longest makes way for it.

        Where none idles, one whose request isn't complete does: 64 slow clients must not fail a probe of liveness.
        """
        if len(self.connections) < self.limits.connections:
            return True
        idle = next((connection for connection in self.connections if connection.is_idle), None)
        oldest = idle or next((connection for connection in self.connections if not connection.is_serving), None)
        if oldest is None:
            return False
        oldest.abort()
        return True

    async def answer(self, request: Request) -> Response:
        """The answer to one request, whatever its handler does."""
        try:
            self.gate.check(request)
            handler = self._find(request)
            async with asyncio.timeout(self.limits.handler_s):
                return await handler(request)
        except ProblemError as error:
            return error.response()
        except TimeoutError:
            return problem("timeout", f"The sidecar had no answer within {self.limits.handler_s:g} s.")
        except Exception as error:  # noqa: BLE001  one endpoint's defect must not end the server
            self.log_error(f"{self.name}: {request.method} {request.path} failed", error)
            return problem("internal")

    def _find(self, request: Request) -> Handler:
        method = "GET" if request.method == "HEAD" else request.method
        handler = self.table.get((method, request.path))
        if handler is not None:
            return handler
        allowed = sorted(known for known, path in self.table if path == request.path)
        if not allowed:
            raise self.missing(request.path)
        if "GET" in allowed:
            allowed.append("HEAD")
        raise ProblemError("method_not_allowed", fields=(("allow", ", ".join(allowed)),))


class _Connection(asyncio.Protocol):
    """One client. Requests are answered one after the other, in their order."""

    __slots__ = (
        "_broken",
        "_done",
        "_finishing",
        "_parser",
        "_server",
        "_serving",
        "_timer",
        "_transport",
        "_waiting",
        "_writable",
    )

    _transport: asyncio.Transport

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._parser = RequestParser(server.limits, self._on_request, self._on_continue)
        self._waiting: deque[tuple[Request | Response, bool]] = deque()
        """Requests with their keep-alive; a response stands for bytes that made no request, and ends it all."""
        self._serving = False
        self._broken = False
        """Nothing more is read from this client."""
        self._finishing = False
        """The server is closing: the next answer is the last."""
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_idle(self) -> bool:
        return not self._serving and not self._broken and not self._parser.in_request

    @property
    def is_serving(self) -> bool:
        return self._serving

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's don't derive from it
        has_room = self._server.has_room()
        self._server.connections[self] = None
        if has_room:
            self._cut_after(self._server.limits.request_s)
        else:
            self._refuse(problem("connection_limit", "Too many connections to this endpoint."))

    def connection_lost(self, error: Exception | None) -> None:
        self._broken = True
        self._cut_after(None)
        self._waiting.clear()
        self._writable.set()
        self._server.connections.pop(self, None)
        if not self._done.done():
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        was_idle = self.is_idle
        try:
            self._parser.feed(data)
        except ProblemError as error:
            self._broken = True
            if not self._serving:
                self._refuse(error.response())
            else:
                self._waiting.append((error.response(), False))
            return
        if was_idle and self._parser.in_request:
            self._cut_after(self._server.limits.request_s)

    def eof_received(self) -> bool:
        """A client that has said all still gets its answers."""
        self._broken = True
        return self._serving

    def pause_writing(self) -> None:
        self._writable.clear()
        self._cut_after(self._server.limits.write_s)

    def resume_writing(self) -> None:
        self._writable.set()
        self._cut_after(None)

    def finish(self) -> "asyncio.Future[None]":
        """Close after the answer that is being made, or at once; the future says when."""
        self._finishing = True
        if not self._serving:
            self._transport.close()
        return self._done

    def abort(self) -> None:
        """Close at once."""
        self._server.connections.pop(self, None)
        self._transport.abort()

    def _on_request(self, request: Request, keep_alive: bool) -> None:
        if len(self._waiting) >= self._server.limits.pipelined:
            raise ProblemError("malformed_request", f"More than {self._server.limits.pipelined} pipelined requests.")
        self._waiting.append((request, keep_alive))
        if not self._serving:
            self._serving = True
            self._cut_after(None)
            self._transport.pause_reading()
            spawn(self._serve(), name=f"{self._server.name} connection", on_error=self._server.log_error)

    def _on_continue(self) -> None:
        if not self._serving and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _serve(self) -> None:
        while self._waiting and not self._transport.is_closing():
            request, keep_alive = self._waiting.popleft()
            if isinstance(request, Response):
                self._refuse(request)
                return
            response = await self._server.answer(request)
            if self._transport.is_closing():
                return
            close = not keep_alive or self._finishing
            self._transport.write(response.render(close=close, with_body=request.method != "HEAD"))
            await self._writable.wait()
            if close:
                self._leave()
                return
        self._serving = False
        if self._broken or self._finishing:
            self._transport.close()
        else:
            self._wait_for_more()

    def _wait_for_more(self) -> None:
        self._server.connections.pop(self, None)
        self._server.connections[self] = None
        limits = self._server.limits
        self._cut_after(limits.request_s if self._parser.in_request else limits.idle_s)
        self._transport.resume_reading()

    def _refuse(self, response: Response) -> None:
        """Answer what can't be understood, and go. No Date, no body left out: the method may be unknown."""
        self._transport.write(response.render(close=True, with_body=True))
        self._leave()

    def _leave(self) -> None:
        """Close without a reset: what is still being sent is thrown away for a moment.

        RFC 9112, section 9.6.
        """
        self._serving = False
        self._broken = True
        if self._transport.is_closing():
            return
        self._cut_after(_LINGER_S)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()

    def _cut_after(self, delay_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_s is not None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._transport.abort)
