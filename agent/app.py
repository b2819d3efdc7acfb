"""The composition root: one configuration in, live objects and one exit stack out."""

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from agent.admin.endpoints import OPEN_PATHS, admin_endpoints
from agent.api.endpoints import local_endpoints, missing
from agent.assembly.app_watch import AppWatch
from agent.assembly.body import Body
from agent.assembly.lasting import in_force
from agent.assembly.offline import prove
from agent.assembly.sidecar import Sidecar
from agent.assembly.sockets import Sockets
from agent.assembly.telemetry import Telemetry
from agent.config.load import load
from agent.config.root import Config
from agent.core.tasks import spawn
from agent.drivers.control_http import ControlServer, Gate
from agent.drivers.control_messages import ProblemError, Table, nothing_at
from agent.ports.operator import Component
from agent.runtime.drain import Shutdown
from agent.runtime.lifecycle import Event, Phase
from agent.runtime.limits import complain_about, raise_open_files
from agent.runtime.memory import give_back
from agent.runtime.reload import Reloader
from agent.runtime.signals import handled
from agent.runtime.view import Operator

if TYPE_CHECKING:
    from agent.assembly.fleet import Fleet

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def run(file: str) -> int:
    """Run the sidecar with the configuration in `file` until it is told to end; the exit status.

    Raises ConfigError where the file is wrong, BindError where an address is taken.
    """
    config = prove(load(file))
    complaint = complain_about(raise_open_files(), config.limits.connections)
    sockets = Sockets(config)
    new_loop = _new_loop()
    try:
        fleet = None
        if config.workers > 1:
            from agent.assembly.fleet import Fleet  # noqa: PLC0415  one process needs nothing of it

            fleet = Fleet(config, sockets, new_loop)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(_live(config, sockets, fleet, complaint))
    finally:
        sockets.close()


def _new_loop() -> NewLoop:
    try:
        import uvloop  # noqa: PLC0415  optional: the event loop of the standard library serves as well
    except ImportError:
        return asyncio.new_event_loop
    new: NewLoop = uvloop.new_event_loop
    return new


async def _live(config: Config, sockets: Sockets, fleet: "Fleet | None", complaint: str | None) -> int:
    async with AsyncExitStack() as stack:
        body: Body = fleet if fleet is not None else _alone(config, sockets)
        process = Process(config, body, sockets, stack)
        if complaint:
            body.telemetry.log.warning(complaint)
        return await process.run()


def _alone(config: Config, sockets: Sockets) -> Sidecar:
    inbound = sockets.take("inbound")
    assert inbound is not None
    return Sidecar(config, Telemetry(config), inbound, sockets.take("outbound"))


class Process:
    """The process that was started: signals, lifecycle, reloads, and the operators' and the local surface."""

    def __init__(self, config: Config, body: Body, sockets: Sockets, stack: AsyncExitStack) -> None:
        """Parts are closed in the reverse order of their making; signals are heard until all are closed."""
        self._started = config
        self._effective = config
        self._body = body
        self._sockets = sockets
        self._stack = stack
        self._admin: ControlServer | None = None
        say = body.telemetry.say
        self._shutdown = Shutdown(config.lifecycle, body, log=say)
        self._reloader: Reloader[Config] = Reloader(
            config,
            load=self._load,
            apply=self._apply,
            settings=config.reload,
            registry=body.telemetry.registry,
            log=say,
        )
        signals = {
            signal.SIGTERM: lambda: self._shutdown.post(Event.TERMINATE),
            signal.SIGINT: lambda: self._shutdown.post(Event.INTERRUPT),
            signal.SIGHUP: self._reloader.request,
        }
        stack.enter_context(handled(signals))
        stack.push_async_callback(body.close)
        self._app = AppWatch(body.telemetry.registry, say, lambda _: self._say_when_ready())
        self._said_ready = False
        stack.callback(self._app.close)

    async def run(self) -> int:
        """Start, serve, end."""
        starting = spawn(self._start(), name="start", on_error=_told_by_run)
        stopping = spawn(self._shutdown.wait(), name="stop")
        self._stack.callback(starting.cancel)
        self._stack.callback(stopping.cancel)
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        code = await stopping
        return max(code, self._body.exit_code)

    async def _start(self) -> None:
        """The surfaces of operators first: they see a start that takes long."""
        config, body = self._started, self._body
        view = self._view()
        self._admin = await self._serve("admin", admin_endpoints(view), _gate(config))
        await self._serve("local", local_endpoints(view), Gate(), missing=missing)
        self._app.use(config.app)
        if not await body.start(self._reloader.lock):
            self._shutdown.post(Event.INTERRUPT)
            return
        reloading = spawn(self._reloader.run(), name="reload")
        self._stack.callback(reloading.cancel)
        for finding in config.warnings:
            told = {"path": finding.path, "line": finding.line, "finding": finding.message, "remedy": finding.remedy}
            body.telemetry.log.warning(
                "configuration: doubtful", **{key: value for key, value in told.items() if value}
            )
        self._shutdown.post(Event.STARTED)
        if not self._shutdown.is_ending:
            places = self._sockets.places
            body.telemetry.log.info("listening", config=config.file, fingerprint=config.fingerprint, **places)
        self._say_when_ready()
        give_back()

    def _say_when_ready(self) -> None:
        """Once, in the log: from now on `/readyz` is good."""
        if self._said_ready or self._shutdown.phase is not Phase.RUNNING:
            return
        if all(component.ready for component in self._components() if component.required):
            self._said_ready = True
            self._body.telemetry.log.info("ready")

    async def _serve(
        self, name: str, table: Table, gate: Gate, *, missing: Callable[[str], ProblemError] = nothing_at
    ) -> ControlServer:
        def log_error(sentence: str, error: BaseException) -> None:
            self._body.telemetry.log.error(sentence, exception=error)

        bound = self._sockets.take(name)
        assert bound is not None
        server = ControlServer(table, name=name, gate=gate, log_error=log_error, missing=missing)
        await server.start(bound)
        self._stack.push_async_callback(server.close)
        return server

    # --- reload --------------------------------------------------------------------------------------------------

    def _load(self) -> Config:
        """Runs in a thread. What can't be brought to life is refused here, before anything has changed."""
        read = load(self._started.file, again=True)
        prove(in_force(self._started, read)[0])
        return read

    async def _apply(self, read: Config) -> Sequence[str]:
        effective, warnings = in_force(self._started, read)
        warnings += await self._body.use(effective)
        self._effective = effective
        self._app.use(effective.app)
        if self._admin is not None:
            self._admin.gate = _gate(effective)
        return warnings

    # --- operators -----------------------------------------------------------------------------------------------

    def _view(self) -> Operator[Config]:
        body = self._body
        return Operator(
            shutdown=self._shutdown,
            reloader=self._reloader,
            source=self._started.file,
            listening=lambda: self._sockets.places,
            masked=lambda _: self._effective.view(),
            doubts=_doubts,
            read_components=self._components,
            take_snapshot=body.snapshot,
            answer_question=body.explain,
            read_log_level=lambda: body.telemetry.level,
            write_log_level=body.set_level,
            read_capabilities=self._capabilities,
        )

    def _components(self) -> list[Component]:
        phase = self._shutdown.phase.value
        lifecycle = Component("lifecycle", ready=phase == "running", state=phase, since=self._shutdown.report().since)
        return [lifecycle, *self._app.components(), *self._body.components()]

    def _capabilities(self) -> dict[str, Any]:
        place = self._sockets.places.get("outbound")
        return {"invoke": {"address": place, "upstreams": list(self._effective.upstreams)}} if place else {}


def _gate(config: Config) -> Gate:
    token = config.admin.token.get_secret_value() if config.admin.token is not None else ""
    return Gate(token=token, open_paths=OPEN_PATHS)


def _doubts(config: Config) -> list[Mapping[str, Any]]:
    return [finding._asdict() for finding in config.warnings]


def _told_by_run(name: str, error: BaseException) -> None:
    """Nothing: `Process.run` raises it."""
