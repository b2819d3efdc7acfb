"""All workers together, as the process that runs them sees them: one data path, one view, one configuration."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.assembly.sockets import DATA_PATH, Sockets
from agent.assembly.telemetry import Telemetry
from agent.assembly.worker import Beginning, be_worker, packed
from agent.config.root import Config
from agent.core.errors import OutriggerError
from agent.ports.operator import Component, Question
from agent.runtime.log_writer import shared_lock
from agent.runtime.workers import Supervisor
from agent.telemetry.snapshot import Snapshot

_USE_S = 10.0
"""Seconds for a worker to compile a new configuration."""


class StartError(OutriggerError):
    """The workers can't be started; the text says why."""


class Fleet:
    """The supervisor's side of `workers: N`. Satisfies `agent.assembly.body.Body`."""

    def __init__(self, config: Config, sockets: Sockets, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """Starts the workers. To be made before there is an event loop, since all of them are forked from here.

        Raises StartError where the system allows no more processes.
        """
        lock = shared_lock()
        self.telemetry = Telemetry(config, lock=lock)
        self._sockets = sockets
        self._beginning = Beginning(config, config.telemetry.logs.level, sockets, lock, new_loop)
        self._supervisor = Supervisor(
            config.workers,
            self._be_worker,
            settings=config.supervision,
            registry=self.telemetry.registry,
            log=self.telemetry.say,
            keep=[lock, *sockets.inherited],
        )
        try:
            self._supervisor.fork_all()
        except OSError as error:
            raise StartError(f"cannot start {config.workers} workers: {error.strerror}") from error

    def _be_worker(self, index: int, channel: socket.socket) -> int:
        return be_worker(self._beginning, index, channel)

    @property
    def exit_code(self) -> int:
        """See `Body`."""
        return self._supervisor.exit_code

    async def start(self, busy: asyncio.Lock) -> bool:
        """See `Body`: returns when all workers are ready."""
        self.telemetry.start()
        return await self._supervisor.run(fork_lock=busy)

    async def close(self) -> None:
        """See `Body`."""
        await self.telemetry.close()

    # --- Drainable -----------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """See `Drainable`."""
        return self._supervisor.in_flight

    @property
    def tunnels(self) -> int:
        """See `Drainable`."""
        return self._supervisor.tunnels

    @property
    def connections(self) -> int:
        """See `Drainable`."""
        return self._supervisor.connections

    def begin_drain(self, on_idle: Callable[[], None]) -> None:
        """See `Drainable`."""
        self._supervisor.begin_drain(on_idle)
        self._sockets.close(*DATA_PATH)  # a Unix socket would go on taking connections that nobody accepts

    async def abort(self) -> int:
        """See `Drainable`."""
        return await self._supervisor.abort()

    # --- operators -----------------------------------------------------------------------------------------------

    async def use(self, config: Config) -> Sequence[str]:
        """See `Body`. A worker that is started from now on begins with it."""
        self.telemetry.use(config)
        self._beginning = self._beginning._replace(config=config, level=self.telemetry.level)
        followed = await self._supervisor.ask("use", packed(config), timeout_s=_USE_S)
        return [
            f"worker {seat.index} did not take the new configuration in time; the process log says more"
            for seat in self._supervisor.seats
            if seat.child is not None and seat.index not in followed
        ]

    async def set_level(self, level: str) -> None:
        """See `Body`."""
        self.telemetry.level = level
        self._beginning = self._beginning._replace(level=level)
        await self._supervisor.ask("level", level)

    def components(self) -> Sequence[Component]:
        """See `Body`."""
        return [self._supervisor.component(), *self._supervisor.worker_components()]

    async def snapshot(self) -> Snapshot:
        """See `Body`."""
        return await self._supervisor.snapshot()

    async def explain(self, question: Question) -> Mapping[str, Any]:
        """See `Body`: the first worker answers for all. Raises ChannelError where none is there."""
        said = await self._supervisor.ask_one("explain", question._asdict())
        if "senseless" in said:
            raise ValueError(said["senseless"])
        answer: Mapping[str, Any] = said["answer"]
        return answer
