"""One small HTTP GET outside of the data path: bounded in time and size, TLS verified, nothing followed.

The standard library's client in a thread: aiohttp would cost 13 MiB for a call that is made every few minutes.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from urllib.parse import SplitResult, urlsplit

from agent.core.clock import monotonic
from agent.core.errors import OutriggerError

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse


class Fetched(NamedTuple):
    """An answer, whatever its status. Header names are lower-case; of a repeated one the last counts."""

    status: int
    headers: dict[str, str]
    body: bytes


class FetchError(OutriggerError):
    """There is no answer. The text names the URL (without credentials and query), the cause and the remedy."""

    result: ClassVar[str] = "failed"
    """One word for metrics."""


class FetchUrlError(FetchError):
    """The URL can't be fetched from at all."""

    result = "bad_url"


class FetchTimeoutError(FetchError):
    """The whole call took longer than it may."""

    result = "timeout"


class FetchConnectError(FetchError):
    """No connection, or it broke."""

    result = "unreachable"


class FetchTlsError(FetchError):
    """The server's certificate or the handshake was refused."""

    result = "tls"


class FetchTooLargeError(FetchError):
    """The answer is larger than it may be."""

    result = "too_large"


class FetchProtocolError(FetchError):
    """What came is no complete HTTP answer."""

    result = "malformed"


async def fetch(
    url: str,
    *,
    timeout_s: float,
    max_bytes: int,
    ca_file: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Fetched:
    """GET `url` and return the answer, redirects and errors included: judging the status is the caller's part.

    `timeout_s` bounds the whole call, name resolution included; `ca_file` (PEM) replaces the system's authorities.
    Proxies named by the environment are not used. Raises a `FetchError`.
    """
    call = _Call(url, monotonic() + timeout_s, max_bytes, ca_file)
    fields = {"accept": "application/json", "user-agent": "outrigger", **dict(headers)}
    try:
        async with asyncio.timeout(timeout_s):
            return await _in_thread(lambda: call.run(fields))
    except TimeoutError:
        raise FetchTimeoutError(
            f"{call.shown}: no complete answer within {timeout_s:g} s; see whether the server is up and can be "
            "reached from here, or raise timeout_s"
        ) from None
    finally:
        call.abort()


class _Call:
    """One exchange. `run` blocks in a thread; `abort` may come from another and makes it end."""

    def __init__(self, url: str, deadline: float, max_bytes: int, ca_file: str | None) -> None:
        self.shown, self._parts = _checked(url)
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._ca_file = ca_file
        self._socket: socket.socket | None = None
        self._aborted = False

    def run(self, fields: dict[str, str]) -> Fetched:
        from http.client import HTTPException  # noqa: PLC0415  costs 2 MiB, only where something is fetched

        connection = self._connection()
        try:
            connection.connect()
            self._socket = connection.sock
            if self._aborted:
                raise TimeoutError
            target = self._parts.path or "/"
            connection.request("GET", f"{target}?{self._parts.query}" if self._parts.query else target, headers=fields)
            response = connection.getresponse()
            body = self._body(response)
            return Fetched(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
        except (FetchError, TimeoutError):
            raise
        except ssl.SSLCertVerificationError as error:
            raise FetchTlsError(
                f"{self.shown}: the server's certificate is refused ({error.verify_message}); for a private authority "
                "set ca_file to its PEM certificate"
            ) from None
        except ssl.SSLError as error:
            raise FetchTlsError(f"{self.shown}: TLS failed ({error.reason or error}); is this an HTTPS port?") from None
        except (HTTPException, ValueError) as error:
            raise FetchProtocolError(
                f"{self.shown}: no proper HTTP answer ({type(error).__name__}); does the URL lead to the right server?"
            ) from None
        except OSError as error:
            raise FetchConnectError(
                f"{self.shown}: {error.strerror or error}; see whether the name resolves and the server is up"
            ) from None
        finally:
            connection.close()

    def abort(self) -> None:
        """Wake the thread if it still waits for the other side."""
        self._aborted = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _connection(self) -> "HTTPConnection":
        from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415

        host, port = self._parts.hostname or "", self._parts.port
        patience_s = max(0.001, self._deadline - monotonic())
        if self._parts.scheme == "http":
            return HTTPConnection(host, port, timeout=patience_s)
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise FetchTlsError(
                f"{self.shown}: ca_file {self._ca_file!r} can't be used ({error.strerror or error}); it must be a "
                "readable PEM file of certificates"
            ) from None
        return HTTPSConnection(host, port, timeout=patience_s, context=context)

    def _body(self, response: "HTTPResponse") -> bytes:
        announced = response.length
        body = b"" if announced is not None and announced > self._max_bytes else response.read(self._max_bytes + 1)
        if len(body) > self._max_bytes or (announced or 0) > self._max_bytes:
            raise FetchTooLargeError(f"{self.shown}: the answer has more than {self._max_bytes} bytes")
        if announced is not None and len(body) < announced:
            raise FetchConnectError(f"{self.shown}: the connection ended after {len(body)} of {announced} bytes")
        return body


def _checked(url: str) -> tuple[str, SplitResult]:
    """What may be shown of the URL, and its parts."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise FetchUrlError(f"the URL can't be read ({error}); write https://HOST:PORT/PATH") from None
    if parts.scheme not in ("http", "https") or not host:
        raise FetchUrlError(f"scheme {parts.scheme!r}, host {host!r}: only http and https URLs with a host are fetched")
    if any(ord(char) <= 32 or ord(char) >= 127 for char in url):
        raise FetchUrlError(f"a URL at {host!r} has blanks, control characters or non-ASCII; percent-encode them")
    name = f"[{host}]" if ":" in host else host
    authority = name if port is None else f"{name}:{port}"
    return f"{parts.scheme}://{authority}{parts.path}", parts


async def _in_thread(work: Callable[[], Fetched]) -> Fetched:
    """Like `asyncio.to_thread`, but with a daemon: a resolver that hangs must not hold up the process's exit."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Fetched] = loop.create_future()

    def settle(result: Fetched | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        elif result is not None:
            done.set_result(result)

    def run() -> None:
        result: Fetched | None = None
        error: BaseException | None = None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001  whatever it is, it belongs to the awaiting side
            error = caught
        # A closed loop: the process is ending, and nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="fetch", daemon=True).start()
    return await done
