"""The worker's end: tells the supervisor how it is, answers its questions, and drains when told so or left alone."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.core.tasks import spawn
from agent.ports.operator import Component
from agent.runtime.channel import Answering, Channel
from agent.runtime.process import Drainable, Log
from agent.runtime.settings import LifecycleSettings

_TELL_EVERY_S = 1.0


class WorkerSide:
    """One worker's life between `ready` and the exit code.

    `handlers` answer the supervisor's questions (``metrics``, ``explain``, ``use``, ``level``); ``drain`` and
    ``abort`` are answered here. What `read_components` returns is told whenever it has changed: who asks the supervisor
    how all is must never wait for a worker that hangs.
    """

    def __init__(
        self,
        data_path: Drainable,
        handlers: Mapping[str, Answering],
        *,
        settings: LifecycleSettings,
        log: Log,
        read_components: Callable[[], Sequence[Component]] = tuple,
    ) -> None:
        self._data_path = data_path
        self._read_components = read_components
        self._components: list[Component] = []
        self._settings = settings
        self._log = log
        self._draining = False
        self._ended = asyncio.Event()
        self._cut = 0
        self._told = (0, 0, 0)
        own: dict[str, Answering] = {"drain": self._drain, "abort": self._abort}
        self._channel = Channel({**handlers, **own}, on_close=self._left_alone)

    async def attach(self, sock: socket.socket) -> None:
        """Talk to the supervisor over the socket that the worker's main function was given."""
        await self._channel.attach(sock)
        spawn(self._tell_load(), name="telling the load")

    def ready(self) -> None:
        """It listens and serves."""
        self._tell_components()
        self._channel.tell("ready")

    async def wait(self) -> int:
        """Return the exit code when the worker is to end."""
        await self._ended.wait()
        self._channel.close()
        return self._settings.cut_exit_code if self._cut else 0

    async def _drain(self, body: Any) -> None:
        self._begin()

    def _begin(self) -> None:
        if not self._draining:
            self._draining = True
            self._data_path.begin_drain(self._ended.set)

    async def _abort(self, body: Any) -> int:
        self._cut = await self._data_path.abort()
        # After the answer has been sent.
        asyncio.get_running_loop().call_later(0.01, self._ended.set)
        return self._cut

    def _left_alone(self) -> None:
        """The supervisor is gone, whatever killed it: nobody would ever end this process."""
        if self._ended.is_set():
            return
        self._log("error", "the supervisor is gone: draining")
        self._begin()
        spawn(self._end_in_time(), name="deadline without a supervisor")

    async def _end_in_time(self) -> None:
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self._ended.wait()
        except TimeoutError:
            self._cut = await self._data_path.abort()
            self._ended.set()

    async def _tell_load(self) -> None:
        path = self._data_path
        while self._channel.is_open:
            load = (path.in_flight, path.tunnels, path.connections)
            if load != self._told:
                self._told = load
                self._channel.tell("load", load)
            self._tell_components()
            await asyncio.sleep(_TELL_EVERY_S / 4 if self._draining else _TELL_EVERY_S)

    def _tell_components(self) -> None:
        components = list(self._read_components())
        if components != self._components:
            self._components = components
            self._channel.tell("components", [component._asdict() for component in components])
