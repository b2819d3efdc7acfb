"""The data path of one process as the runtime sees it: started, drained, reloaded, asked."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.assembly.data_path import DataPath
from agent.assembly.explain import Explainer
from agent.assembly.telemetry import Telemetry
from agent.config.root import Config
from agent.core.address import parse_address
from agent.core.tasks import spawn
from agent.drivers.probe import reachable
from agent.ports.operator import Component, Question
from agent.proxy.context import Context
from agent.proxy.listener import Listener
from agent.proxy.surface import Surface
from agent.proxy.tls import ServerTls, TlsError
from agent.runtime.app_health import wait_until_gone
from agent.telemetry.snapshot import Snapshot

_TLS_LOOK_S = 1.0
_ACCEPT_S = 0.05
"""For so long the listener still takes what the kernel has queued, before it is closed."""
_MESSAGES = {"deadline": "a deadline's callback failed", "connect": "connecting failed in an unforeseen way"}


class Sidecar:
    """Everything of one process but its admin and local surfaces. Satisfies `agent.assembly.body.Body`."""

    exit_code = 0

    def __init__(
        self,
        config: Config,
        telemetry: Telemetry,
        inbound: socket.socket,
        outbound: socket.socket | None,
        *,
        share: float = 1.0,
    ) -> None:
        """Bring `config` to life, without listening yet. Needs a running loop; raises what `DataPath.use` raises."""
        self.telemetry = telemetry
        self.log = telemetry.log
        self.context = Context(config.limits, telemetry.registry, telemetry.access_log, report=self._report)
        tls = config.listen.inbound.tls
        self._tls = ServerTls(tls) if tls is not None else None
        self.data_path = DataPath(self.context, tls=tls is not None, share=share, warn=self.log.warning)
        self.data_path.use(config)
        self._sockets = inbound, outbound
        self._listeners: list[Listener] = []
        self._following: asyncio.Task[None] | None = None

    @property
    def config(self) -> Config:
        """The configuration in force."""
        assert self.data_path.generation is not None
        return self.data_path.generation.config

    async def start(self, busy: asyncio.Lock) -> bool:
        """Listen."""
        self.telemetry.start()
        inbound, outbound = self._sockets
        tls = self._tls.context if self._tls is not None else None
        self._listeners.append(Listener(self.data_path.inbound, inbound, tls))
        if outbound is not None:
            self._listeners.append(Listener(self.data_path.outbound, outbound))
        for listener in self._listeners:
            await listener.start()
        if self._tls is not None:
            self._following = spawn(self._follow_certificate(self._tls), name="certificate", on_error=self._report)
        return True

    async def _follow_certificate(self, tls: ServerTls) -> None:
        while True:
            await asyncio.sleep(_TLS_LOOK_S)
            try:
                if tls.refresh():
                    self.log.info("the TLS certificate was read again")
            except TlsError as error:
                self.log.error("the new TLS certificate can't be used; the old one stays", error=str(error))

    def _report(self, where: str, error: BaseException) -> None:
        self.log.error(_MESSAGES.get(where, "a part of the sidecar failed"), where=where, exception=error)

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
        """See `Drainable`.

        Clients first. What the application still works on may need the outbound surface, so that one stays up until
        the application is gone, or has had `lifecycle.local_api_grace_s`.
        """
        self._begin_to_drain(self.data_path.inbound)
        spawn(self._drain(on_idle), name="drain", on_error=self._report)

    def _begin_to_drain(self, surface: Surface) -> None:
        surface.draining = True
        for connection in list(self.context.connections):
            if connection.surface is surface:
                connection.drain()

    async def _drain(self, on_idle: Callable[[], None]) -> None:
        await asyncio.sleep(_ACCEPT_S)
        await self._finish(self.data_path.inbound, self._listeners[:1])
        outbound = self._listeners[1:]
        if outbound:
            await self._application_gone()
            self._begin_to_drain(self.data_path.outbound)
            await self._finish(self.data_path.outbound, outbound)
        on_idle()

    async def _finish(self, surface: Surface, listeners: list[Listener]) -> None:
        """Empty is only who can get nothing new: asked for before, the last client's leaving would end it too early."""
        for listener in listeners:
            await listener.stop_accepting()
        empty = asyncio.Event()
        surface.when_empty(empty.set)
        await empty.wait()

    async def _application_gone(self) -> None:
        app = self.config.app
        if app is None:
            return
        self.log.info("clients are served; waiting for the application to end, which may still call upstreams")
        try:
            async with asyncio.timeout(self.config.lifecycle.local_api_grace_s):
                await wait_until_gone(parse_address(app.url), reachable)
        except TimeoutError:
            self.log.info("the application is still there after lifecycle.local_api_grace_s")

    async def abort(self) -> int:
        """See `Drainable`."""
        cut = self.context.in_flight
        for connection in list(self.context.connections):
            connection.cut()
        for listener in self._listeners:
            listener.close()
        await asyncio.sleep(0)
        return cut

    async def close(self) -> None:
        """Stop all background work and write what is left to be logged."""
        await self.data_path.close()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self.telemetry.close()

    # --- operators -----------------------------------------------------------------------------------------------

    async def use(self, config: Config) -> Sequence[str]:
        """See `Body`. Swaps between two callbacks of the loop."""
        self.data_path.use(config)
        self.telemetry.use(config)
        return ()

    async def set_level(self, level: str) -> None:
        """See `Body`."""
        self.telemetry.level = level

    async def snapshot(self) -> Snapshot:
        """This process's metrics."""
        return self.telemetry.registry.snapshot()

    async def explain(self, question: Question) -> Mapping[str, Any]:
        """See `SidecarView.explain`."""
        generation = self.data_path.generation
        assert generation is not None
        return Explainer(self.data_path.inbound, generation.tables.routes).explain(question, self.context.clock())

    def components(self) -> Sequence[Component]:
        """The key sets. Without one its tokens can't be judged, but all else goes on: degraded, not unready.

        The issuer is shared by all replicas, and taking them all out of rotation would end the routes that need no
        token as well. Requests that need its tokens are answered 503 `keys_unavailable`.
        """
        generation = self.data_path.generation
        assert generation is not None
        return [
            Component(
                f"issuer:{name}",
                ready=issuer.keys.available,
                required=False,
                state="keys are there" if issuer.keys.available else "no keys",
                since=issuer.keys.since,
                error=issuer.trouble,
            )
            for name, issuer in generation.issuers.items()
        ]
