"""Accepts TLS clients one by one, so that those whose handshake lasts count as connections too.

A server of the event loop tells of a client only after its handshake: until then nothing would bound how many of them
hold a descriptor, and without descriptors no connection to the application could be made either.
"""

import asyncio
import contextlib
import socket
from typing import Any

from agent.core.tasks import spawn
from agent.proxy.downstream import Downstream
from agent.proxy.surface import Surface

_AT_ONCE = 64
"""Clients that are accepted in one go; then other connections have a turn."""
_WITHOUT_DESCRIPTORS_S = 1.0


class TlsServer:
    """Leads a surface's clients in. `options` are those of `loop.connect_accepted_socket`."""

    __slots__ = ("_handshakes", "_loop", "_options", "_socket", "_surface")

    def __init__(self, surface: Surface, listening: socket.socket, options: dict[str, Any]) -> None:
        self._surface = surface
        self._socket = listening
        self._options = options
        self._handshakes = 0
        self._loop = asyncio.get_running_loop()

    def start(self, backlog: int) -> None:
        """Begin to accept."""
        self._socket.listen(backlog)
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Stop listening at once; handshakes go on."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _accept(self) -> None:
        surface, context = self._surface, self._surface.context
        for _ in range(_AT_ONCE):
            try:
                client = self._socket.accept()[0]
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors: the client would be reported again and again
                self._loop.remove_reader(self._socket)
                self._loop.call_later(_WITHOUT_DESCRIPTORS_S, self._resume)
                return
            if surface.open + self._handshakes >= context.limits.connections:
                context.cells.connections_refused[0] += 1
                client.close()  # to tell it why would take a handshake
                continue
            client.setblocking(False)
            self._handshakes += 1
            spawn(self._greet(client), name="handshake", on_error=context.report)

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._accept)

    async def _greet(self, client: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):  # the client's fault, TLS errors among them
                await self._loop.connect_accepted_socket(lambda: Downstream(self._surface), client, **self._options)
        finally:
            self._handshakes -= 1
