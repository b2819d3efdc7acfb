"""The composition root: one configuration in, live objects and one exit stack out."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from agent.admin.endpoints import OPEN_PATHS, admin_endpoints
from agent.api.endpoints import local_endpoints
from agent.assembly.sidecar import Sidecar
from agent.assembly.view import SingleView
from agent.config.load import load
from agent.config.root import Config
from agent.core.address import parse_address
from agent.core.tasks import spawn
from agent.drivers.control_http import ControlServer, Gate
from agent.drivers.control_messages import Table
from agent.drivers.probe import probe
from agent.proxy.listener import bind
from agent.proxy.settings import SurfaceSettings
from agent.runtime.app_health import AppHealth
from agent.runtime.drain import Shutdown
from agent.runtime.lifecycle import Event
from agent.runtime.limits import complain_about, raise_open_files
from agent.runtime.memory import give_back
from agent.runtime.reload import Reloader
from agent.runtime.signals import handled


def run(file: str) -> int:
    """Run the sidecar with the configuration in `file` until it is told to end; the exit status.

    Raises ConfigError where the file is wrong, BindError where an address is taken.
    """
    config = load(file)
    return _runner(_single(config))


def _runner(main: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop  # noqa: PLC0415  optional: the event loop of the standard library serves as well
    except ImportError:
        return asyncio.run(main)
    result: int = uvloop.run(main)
    return result


async def _single(config: Config) -> int:
    """One process that does everything."""
    async with AsyncExitStack() as stack:
        return await Single(config, stack).run()


class Single:
    """The sidecar as one process. Parts are closed in the reverse order of their making."""

    def __init__(self, config: Config, stack: AsyncExitStack) -> None:
        self._config = config
        self._stack = stack
        self._sidecar = Sidecar(config)
        stack.push_async_callback(self._sidecar.close)
        self._health = self._app_health()
        self._shutdown = Shutdown(config.lifecycle, self._sidecar, log=self._log)
        self._reloader: Reloader[Config] = Reloader(
            config,
            load=lambda: load(config.file),
            apply=self._sidecar.use,
            settings=config.reload,
            registry=self._sidecar.registry,
            log=self._log,
        )

    def _log(self, level: str, sentence: str, **fields: Any) -> None:
        getattr(self._sidecar.log, level)(sentence, **fields)

    def _app_health(self) -> AppHealth | None:
        app = self._config.app
        if app is None:
            return None
        return AppHealth(
            parse_address(app.url),
            app.health,
            app.health_check,
            probe=probe,
            registry=self._sidecar.registry,
            log=self._log,
        )

    async def run(self) -> int:
        """Listen, serve, end."""
        config, sidecar = self._config, self._sidecar
        complaint = complain_about(raise_open_files(), config.limits.connections)
        listen = config.listen
        outbound = bind(listen.outbound) if config.upstreams else None
        listening = await sidecar.start(bind(listen.inbound), outbound)
        view = SingleView(sidecar, self._shutdown, self._reloader, self._health, listening)
        token = config.admin.token.get_secret_value() if config.admin.token is not None else ""
        gate = Gate(token=token, open_paths=OPEN_PATHS)
        listening["admin"] = await self._serve("admin", admin_endpoints(view), gate, listen.admin)
        listening["local"] = await self._serve("local", local_endpoints(view), Gate(), listen.local)
        for work, name in ((self._reloader.run(), "reload"), (self._watch_app(), "app health")):
            task = spawn(work, name=name)
            self._stack.callback(task.cancel)
        if complaint:
            sidecar.log.warning(complaint)
        for finding in config.warnings:
            sidecar.log.warning("configuration: doubtful", finding=str(finding))
        signals = {
            signal.SIGTERM: lambda: self._shutdown.post(Event.TERMINATE),
            signal.SIGINT: lambda: self._shutdown.post(Event.INTERRUPT),
            signal.SIGHUP: self._reloader.request,
        }
        with handled(signals):
            self._shutdown.post(Event.STARTED)
            sidecar.log.info("ready", config=config.file, fingerprint=config.fingerprint, **listening)
            give_back()
            return await self._shutdown.wait()

    async def _watch_app(self) -> None:
        if self._health is not None:
            await self._health.run()

    async def _serve(self, name: str, table: Table, gate: Gate, settings: SurfaceSettings) -> str:
        def log_error(sentence: str, error: BaseException) -> None:
            self._sidecar.log.error(sentence, error=error)

        server = ControlServer(table, name=name, gate=gate, log_error=log_error)
        host, port = await server.start(settings.host, settings.port)
        self._stack.push_async_callback(server.close)
        return f"{host}:{port}"
