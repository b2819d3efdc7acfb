"""The supervisor: forks workers, restarts those that die, asks and drains them all as if they were one data path."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from agent.core.clock import Clock, monotonic, wall
from agent.core.tasks import spawn
from agent.ports.operator import Component
from agent.runtime.channel import Channel, ChannelError
from agent.runtime.gather import Gathered
from agent.runtime.process import Log
from agent.runtime.settings import WorkerSettings
from agent.runtime.worker_process import Child, WorkerMain, exited, fork_worker
from agent.telemetry.metrics import Registry
from agent.telemetry.snapshot import Snapshot

_KILL_AFTER_S = 1.0


class Seat:
    """The place of one worker: its present process, and what is known of it."""

    __slots__ = ("channel", "child", "components", "failures", "index", "is_ready", "load", "started_at")

    def __init__(self, index: int) -> None:
        self.index = index
        self.child: Child | None = None
        self.channel: Channel | None = None
        self.is_ready = False
        self.failures = 0
        """Deaths in a row of processes that did not become stable."""
        self.started_at = 0.0
        self.components: list[Component] = []
        """Its own parts, as last told."""
        self.load = (0, 0, 0)
        """Requests, tunnels and connections, as last told."""


class Supervisor:
    """All workers. It is `Drainable`, so that the lifecycle treats them like a single process's data path.

    Call `fork_all` before there is an event loop, then `run` inside one.
    """

    def __init__(  # noqa: PLR0913  what a composition root hands over
        self,
        count: int,
        main: WorkerMain,
        *,
        settings: WorkerSettings,
        registry: Registry,
        log: Log,
        keep: Iterable[int] = (),
        rng: Random | None = None,
        clock: Clock = monotonic,
    ) -> None:
        """`keep` are descriptors that workers inherit; all others they lose."""
        self.seats = [Seat(index) for index in range(count)]
        self.exit_code = 0
        """The worst exit code of a worker that could not start, or that ended while draining."""
        self._main = main
        self._keep = tuple(keep)
        self._settings = settings
        self._registry = registry
        self._log = log
        self._rng = rng or Random()  # noqa: S311  spreads restarts, guards nothing
        self._clock = clock
        self._gathered = Gathered()
        self._draining = False
        self._on_idle: Callable[[], None] | None = None
        self._was_complete = False
        self._settled: asyncio.Event | None = None
        self._since = wall()
        self._fork_lock: asyncio.Lock | None = None
        self._restarts = registry.counter(
            "outrigger_worker_restarts_total", "Workers that died and were started again."
        )
        self._unanswered = registry.counter(
            "outrigger_worker_unanswered_total", "Questions that a worker did not answer in time.", ("worker",)
        )
        self._restarts.at()
        registry.gauge("outrigger_workers_ready", "Workers that are serving.").watch(
            lambda: sum(seat.is_ready for seat in self.seats)
        )

    # Start and restart

    def fork_all(self) -> None:
        """Start all workers. Raises OSError where the system allows no more processes; none is left running then."""
        try:
            for seat in self.seats:
                self._fork(seat)
        except OSError:
            for seat in self.seats:
                if seat.child is not None:
                    os.kill(seat.child.pid, signal.SIGKILL)
                    os.waitpid(seat.child.pid, 0)
            raise

    async def run(self, *, fork_lock: asyncio.Lock | None = None) -> bool:
        """Talk to the workers and look after them. Returns true when all are ready; the looking after goes on.

        Returns false where one ended before it was ready: something is wrong with all of them, so nothing is restarted
        and the caller should end (`exit_code` says how). `fork_lock` is held by whoever runs something in a thread
        that a fork must not copy (`Reloader.lock`).
        """
        self._settled = asyncio.Event()
        self._fork_lock = fork_lock
        for seat in self.seats:
            await self._attach(seat)
        await self._settled.wait()
        return self._was_complete

    def _fork(self, seat: Seat) -> None:
        seat.child = fork_worker(self._main, seat.index, keep=self._keep)
        seat.started_at = self._clock()
        seat.is_ready = False
        seat.load = (0, 0, 0)
        seat.components = []

    async def _attach(self, seat: Seat) -> None:
        assert seat.child is not None

        async def ready(body: Any) -> None:
            self._became_ready(seat)

        async def load(numbers: Any) -> None:
            seat.load = (numbers[0], numbers[1], numbers[2])

        async def components(told: Any) -> None:
            seat.components = [Component(**one) for one in told]

        seat.channel = Channel({"ready": ready, "load": load, "components": components})
        spawn(self._look_after(seat, seat.child), name=f"worker {seat.index}", on_error=self._defect)
        await seat.channel.attach(seat.child.sock)
        if self._draining:
            seat.channel.tell("drain")

    def _became_ready(self, seat: Seat) -> None:
        seat.is_ready = True
        self._since = wall()
        self._log("info", f"worker {seat.index} is ready", worker=seat.index, pid=seat.child.pid if seat.child else 0)
        if all(one.is_ready for one in self.seats):
            self._was_complete = True
            self._settle()

    def _settle(self) -> None:
        if self._settled is not None:
            self._settled.set()

    async def _look_after(self, seat: Seat, child: Child) -> None:
        code = await exited(child.pid)
        if seat.channel is not None:
            seat.channel.close()
        was_ready, seat.is_ready, seat.child, seat.channel = seat.is_ready, False, None, None
        self._since = wall()
        self._gathered.died(seat.index)
        if self._draining:
            self.exit_code = max(self.exit_code, code)
            self._tell_if_idle()
        elif not self._was_complete and not was_ready:
            self._log("error", f"worker {seat.index} could not start", worker=seat.index, exit_code=code)
            self._draining = True
            self.exit_code = max(self.exit_code, code or 1)
            self._settle()
        else:
            await self._restart(seat, code)

    async def _restart(self, seat: Seat, code: int) -> None:
        settings = self._settings
        lived_s = self._clock() - seat.started_at
        seat.failures = 1 if lived_s >= settings.stable_s else seat.failures + 1
        pause_s = min(settings.restart_first_s * 2.0 ** min(seat.failures - 1, 30), settings.restart_max_s)
        pause_s *= self._rng.uniform(0.5, 1)
        self._log(
            "error",
            f"worker {seat.index} died and is started again",
            worker=seat.index,
            exit_code=code,
            lived_s=round(lived_s, 1),
            pause_s=round(pause_s, 3),
        )
        await asyncio.sleep(pause_s)
        if self._fork_lock is not None:
            async with self._fork_lock:
                await self._fork_outside_of_tasks(seat)
        else:
            await self._fork_outside_of_tasks(seat)
        if seat.child is not None:
            self._restarts.at()[0] += 1
            await self._attach(seat)

    async def _fork_outside_of_tasks(self, seat: Seat) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def fork() -> None:
            try:
                if not self._draining:
                    self._fork(seat)
            except OSError as error:
                self._log("error", f"worker {seat.index} can't be started", error=str(error))
            done.set_result(None)

        loop.call_soon(fork)
        await done
        if seat.child is None and not self._draining:
            spawn(self._restart(seat, 1), name=f"restart of worker {seat.index}", on_error=self._defect)

    def _defect(self, name: str, error: BaseException) -> None:
        self._log("error", f"{name}: {error!r}")

    # Questions

    async def ask(self, what: str, body: Any = None, *, timeout_s: float | None = None) -> dict[int, Any]:
        """Ask all workers at once. Answers by index; whoever fails or is too slow is left out and counted."""
        wait_s = timeout_s or self._settings.answer_s
        seats = [seat for seat in self.seats if seat.channel is not None]

        async def one(seat: Seat) -> tuple[int, Any]:
            assert seat.channel is not None
            return seat.index, await seat.channel.ask(what, body, timeout_s=wait_s)

        answers: dict[int, Any] = {}
        results = await asyncio.gather(*(one(seat) for seat in seats), return_exceptions=True)
        for seat, result in zip(seats, results, strict=True):
            if isinstance(result, ChannelError):
                self._unanswered.at(str(seat.index))[0] += 1
                self._log("warning", f"worker {seat.index}: {result}", worker=seat.index)
            elif isinstance(result, BaseException):
                raise result
            else:
                answers[result[0]] = result[1]
        return answers

    async def ask_one(self, what: str, body: Any = None) -> Any:
        """The answer of the first worker that gives one. Raises ChannelError where none does."""
        error = ChannelError("no worker is running")
        for seat in self.seats:
            if seat.channel is not None and seat.is_ready:
                try:
                    return await seat.channel.ask(what, body, timeout_s=self._settings.answer_s)
                except ChannelError as failed:
                    error = failed
        raise error

    async def snapshot(self) -> Snapshot:
        """All metrics; workers answer the question ``metrics`` with a snapshot of theirs."""
        for index, answer in (await self.ask("metrics")).items():
            self._gathered.answered(index, answer)
        return self._gathered.view(self._registry.snapshot())

    def component(self) -> Component:
        """For operators: ready as soon as all were there once, and as long as one is."""
        ready = sum(seat.is_ready for seat in self.seats)
        state = f"{ready} of {len(self.seats)} running"
        return Component("workers", ready=self._was_complete and ready > 0, state=state, since=self._since)

    def worker_components(self) -> list[Component]:
        """The workers' own parts by name: one that isn't ready in some worker isn't ready."""
        worst: dict[str, Component] = {}
        for seat in self.seats:
            for one in seat.components if seat.is_ready else ():
                known = worst.get(one.name)
                if known is None or known.ready > one.ready:
                    worst[one.name] = one
        return list(worst.values())

    # Drainable

    @property
    def in_flight(self) -> int:
        """As last told by the workers, at most a second ago."""
        return sum(seat.load[0] for seat in self.seats if seat.child is not None)

    @property
    def tunnels(self) -> int:
        """As last told by the workers."""
        return sum(seat.load[1] for seat in self.seats if seat.child is not None)

    @property
    def connections(self) -> int:
        """As last told by the workers."""
        return sum(seat.load[2] for seat in self.seats if seat.child is not None)

    def begin_drain(self, on_idle: Callable[[], None]) -> None:
        """Tell all workers to drain and end; none is restarted any more."""
        self._draining = True
        self._on_idle = on_idle
        for seat in self.seats:
            if seat.channel is not None:
                seat.channel.tell("drain")
        self._tell_if_idle()

    async def abort(self) -> int:
        """Have every worker cut what is left, and end those that don't."""
        self._draining = True
        left = [seat for seat in self.seats if seat.child is not None]
        if not left:
            return 0
        loads = {seat.index: seat.load[0] for seat in left}
        answers = await self.ask("abort")
        cut = sum(int(answers[index]) if index in answers else load for index, load in loads.items())
        ends = asyncio.get_running_loop().time() + _KILL_AFTER_S
        while any(seat.child is not None for seat in left):  # their ends are noticed by _look_after
            if asyncio.get_running_loop().time() > ends:
                self._kill(left)
                ends += _KILL_AFTER_S
            await asyncio.sleep(0.05)
        return cut

    def _kill(self, seats: list[Seat]) -> None:
        for seat in seats:
            if seat.child is not None:
                self._log("error", f"worker {seat.index} doesn't end: killed", worker=seat.index)
                os.kill(seat.child.pid, signal.SIGKILL)

    def _tell_if_idle(self) -> None:
        if self._on_idle is not None and all(seat.child is None for seat in self.seats):
            self._on_idle()
            self._on_idle = None
