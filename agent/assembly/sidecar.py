"""The data path of one process as the runtime sees it: started, drained, reloaded, asked."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.assembly.data_path import DataPath
from agent.assembly.explain import Explainer
from agent.config.root import Config
from agent.core.tasks import spawn
from agent.ports.operator import Component, Question
from agent.proxy.context import Context
from agent.proxy.listener import Listener
from agent.proxy.tls import ServerTls, TlsError
from agent.runtime.log_writer import LogWriter, pump
from agent.telemetry.access_log import AccessLog
from agent.telemetry.metrics import Registry
from agent.telemetry.process_log import ProcessLog, StandardHandler
from agent.telemetry.snapshot import Snapshot

_LOG_INTERVAL_S = 0.2
_TLS_LOOK_S = 1.0
_ACCEPT_S = 0.05
"""For so long the listener still takes what the kernel has queued, before it is closed."""
_MESSAGES = {"deadline": "a deadline's callback failed", "connect": "connecting failed in an unforeseen way"}


class Sidecar:
    """Everything of one process but its admin and local surfaces. Satisfies `agent.runtime.process.Drainable`."""

    def __init__(self, config: Config, *, stdout: int = 1, share: float = 1.0) -> None:
        """Bring `config` to life, without listening yet. Needs a running loop; raises what `DataPath.use` raises."""
        service, logs = config.service, config.telemetry.logs
        self.registry = Registry(max_series=config.telemetry.metrics.max_series)
        self.registry.info.update(
            service_name=service.name,
            service_version=service.version,
            deployment_environment_name=service.environment,
        )
        self._writer = LogWriter(stdout, self.registry)
        self.process_log = ProcessLog(self._writer.write, service=service.name, level=logs.level, mask=logs.mask)
        self.log = self.process_log.logger("outrigger")
        self._access_log = AccessLog(logs.buffer, self.registry, service=service.name)
        self.context = Context(config.limits, self.registry, self._access_log, report=self._report)
        tls = config.listen.inbound.tls
        self._tls = ServerTls(tls) if tls is not None else None
        self.data_path = DataPath(self.context, tls=tls is not None, share=share, warn=self.log.warning)
        self.data_path.use(config)
        self._listeners: list[Listener] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._handler = StandardHandler(self.process_log)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        assert self.data_path.generation is not None
        return self.data_path.generation.config

    async def start(self, inbound: socket.socket, outbound: socket.socket | None) -> dict[str, str]:
        """Listen on bound sockets. Returns the addresses by surface."""
        self._writer.start()
        self._tasks.append(
            spawn(
                pump(self._access_log, self._writer, _LOG_INTERVAL_S, process_log=self.process_log),
                name="log",
                on_error=self._report,
            )
        )
        self._listeners.append(
            Listener(self.data_path.inbound, inbound, self._tls.context if self._tls is not None else None)
        )
        if outbound is not None:
            self._listeners.append(Listener(self.data_path.outbound, outbound))
        for listener in self._listeners:
            await listener.start()
        if self._tls is not None:
            self._tasks.append(spawn(self._follow_certificate(self._tls), name="certificate", on_error=self._report))
        names = ("inbound", "outbound")
        return {name: listener.place for name, listener in zip(names, self._listeners, strict=False)}

    async def _follow_certificate(self, tls: ServerTls) -> None:
        while True:
            await asyncio.sleep(_TLS_LOOK_S)
            try:
                if tls.refresh():
                    self.log.info("the TLS certificate was read again")
            except TlsError as error:
                self.log.error("the new TLS certificate can't be used; the old one stays", reason=str(error))

    def _report(self, where: str, error: BaseException) -> None:
        self.log.error(_MESSAGES.get(where, "a part of the sidecar failed"), where=where, error=error)

    # --- Drainable -----------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests that were accepted and aren't finished."""
        return self.context.in_flight

    @property
    def tunnels(self) -> int:
        """Upgraded connections."""
        return self.context.tunnels

    @property
    def connections(self) -> int:
        """Open connections of clients."""
        return len(self.context.connections)

    def begin_drain(self, on_idle: Callable[[], None]) -> None:
        """See `Drainable`."""
        context = self.context
        context.draining = True
        context.when_empty(on_idle)
        for connection in list(context.connections):
            connection.drain()
        asyncio.get_running_loop().call_later(_ACCEPT_S, self._stop_accepting)

    def _stop_accepting(self) -> None:
        for listener in self._listeners:
            listener.stop_accepting()
        self.context.check_empty()

    async def abort(self) -> int:
        """See `Drainable`."""
        cut = self.context.in_flight
        for connection in list(self.context.connections):
            connection.abort()
        for listener in self._listeners:
            listener.stop_accepting()
        await asyncio.sleep(0)
        return cut

    async def close(self) -> None:
        """Stop all background work and write what is left to be logged."""
        await self.data_path.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.process_log.flush()
        await asyncio.to_thread(self._writer.close, 2.0)

    # --- operators -----------------------------------------------------------------------------------------------

    def use(self, config: Config) -> list[str]:
        """Swap to a new configuration; returns sentences about what needs a restart. Raises and changes nothing."""
        old = self.config
        self.data_path.use(config)
        self.process_log.level = config.telemetry.logs.level
        self.process_log.mask(config.telemetry.logs.mask)
        return [
            f"{name} has changed: it takes effect with the next start"
            for name, before, after in (
                ("listen", old.listen, config.listen),
                ("workers", old.workers, config.workers),
                ("limits", old.limits, config.limits),
                ("lifecycle", old.lifecycle, config.lifecycle),
                ("service", old.service, config.service),
                ("telemetry.logs.buffer", old.telemetry.logs.buffer, config.telemetry.logs.buffer),
                ("telemetry.metrics", old.telemetry.metrics, config.telemetry.metrics),
            )
            if before != after
        ]

    def snapshot(self) -> Snapshot:
        """This process's metrics."""
        return self.registry.snapshot()

    def explain(self, question: Question) -> Mapping[str, Any]:
        """See `SidecarView.explain`."""
        generation = self.data_path.generation
        assert generation is not None
        return Explainer(self.data_path.inbound, generation.tables.routes).explain(question, self.context.clock())

    def components(self) -> Sequence[Component]:
        """The key sets: without one that is fresh enough, its tokens can't be judged."""
        generation = self.data_path.generation
        assert generation is not None
        return [
            Component(
                f"issuer:{name}",
                ready=issuer.keys.available,
                required=False,
                state="keys are there" if issuer.keys.available else "no keys",
            )
            for name, issuer in generation.issuers.items()
        ]
