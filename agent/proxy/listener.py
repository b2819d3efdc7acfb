"""A surface's listening socket: bound once, shared by workers through SO_REUSEPORT, closed before everything else."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

from agent.core.errors import OutriggerError
from agent.proxy.downstream import Downstream
from agent.proxy.settings import SurfaceSettings
from agent.proxy.surface import Surface
from agent.proxy.tls_server import TlsServer

BACKLOG = 4096
"""Connections that the kernel keeps until we accept them; it caps this at net.core.somaxconn."""


class BindError(OutriggerError):
    """The address can't be listened on; the text says which and why."""


def bind(settings: SurfaceSettings, *, reuse_port: bool = False) -> socket.socket:
    """Bind (not yet listen) where `settings` says. Raises BindError."""
    try:
        listening = _made(settings, reuse_port=reuse_port)
    except OSError as error:
        raise BindError(f"cannot listen on {settings.place}: {error.strerror or error}") from error
    listening.setblocking(False)
    return listening


def _made(settings: SurfaceSettings, *, reuse_port: bool) -> socket.socket:
    if settings.unix is not None:
        if Path(settings.unix).is_socket():
            _remove_if_dead(settings.unix)
        return _bound(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), settings.unix)
    family, kind, protocol, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(settings.host != "::"))
    return _bound(listening, address)


def _bound(listening: socket.socket, address: object) -> socket.socket:
    try:
        listening.bind(address)  # type: ignore[arg-type]  # what getaddrinfo gave, or a path
    except OSError:
        listening.close()
        raise
    return listening


def _remove_if_dead(path: str) -> None:
    """A socket file that nobody answers on was left by a process that is gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def place_of(listening: socket.socket) -> str:
    """The address that was bound, with the port that was picked."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Listener:
    """One surface on one socket."""

    def __init__(self, surface: Surface, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._surface = surface
        self._socket = listening
        self._tls_options: dict[str, Any] = {}
        if tls is not None:
            self._tls_options = {"ssl": tls, "ssl_handshake_timeout": surface.context.limits.header_timeout_s}
        self._server: asyncio.Server | TlsServer | None = None
        self.place = place_of(listening)

    async def start(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        surface = self._surface
        if self._tls_options:
            server = TlsServer(surface, self._socket, self._tls_options)
            server.start(BACKLOG)
            self._server = server
            return
        make = loop.create_unix_server if self._socket.family == socket.AF_UNIX else loop.create_server
        self._server = await make(
            lambda: Downstream(surface),
            sock=self._socket,
            backlog=BACKLOG,
        )

    async def stop_accepting(self) -> None:
        """Take what the kernel has queued, and no further connection; those that are open stay."""
        if self._server is None:
            return
        queued = self._queued()
        self.close()  # in the same breath: what comes in between is reset by the kernel
        loop, surface = asyncio.get_running_loop(), self._surface
        taken = [loop.connect_accepted_socket(lambda: Downstream(surface), one, **self._tls_options) for one in queued]
        await asyncio.gather(*taken, return_exceptions=True)

    def _queued(self) -> list[socket.socket]:
        found: list[socket.socket] = []
        try:
            while len(found) < BACKLOG:
                found.append(self._socket.accept()[0])
                found[-1].setblocking(False)
        except OSError:
            pass  # the queue is empty
        return found

    def close(self) -> None:
        """Stop listening at once; connections that the kernel has queued are lost."""
        if self._server is not None:
            self._server.close()
            self._server = None
