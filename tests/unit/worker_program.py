"""A supervisor with tiny workers, for test_workers.py: run as a process of its own, one scenario by name."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

import uvloop

from agent.proxy.listener import bind
from agent.proxy.settings import SurfaceSettings
from agent.runtime.drain import Shutdown
from agent.runtime.lifecycle import Event
from agent.runtime.settings import LifecycleSettings, WorkerSettings
from agent.runtime.signals import handled
from agent.runtime.worker_process import run_to_the_end
from agent.runtime.worker_side import WorkerSide
from agent.runtime.workers import Supervisor
from agent.telemetry.metrics import Registry

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}
LOOP = LOOPS[sys.argv[1]]
SCENARIO = sys.argv[2]
LIFECYCLE = LifecycleSettings(grace_s=0, drain_s=float(sys.argv[3]) if len(sys.argv) > 3 else 10)
PORT = 0


def log(level: str, sentence: str, **fields: object) -> None:
    sys.stdout.write(f"log {level} {sentence} {fields}\n")
    sys.stdout.flush()


class DataPath:
    """A line in, a line out: ``pid`` answers the process id, ``hold`` waits until it is released."""

    def __init__(self) -> None:
        self.in_flight = self.tunnels = self.connections = 0
        self.released = asyncio.Event()
        self.server: asyncio.Server | None = None
        self.on_idle: Callable[[], None] | None = None
        self.writers: set[asyncio.StreamWriter] = set()

    async def start(self, port: int) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port, reuse_port=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.in_flight += 1
        self.writers.add(writer)
        line = (await reader.readline()).decode().strip()
        if line == "hold":
            writer.write(f"holding {os.getpid()}\n".encode())
            await self.released.wait()
        if line == "die":
            os._exit(3)
        writer.write(f"{os.getpid()}\n".encode())
        writer.close()
        self.writers.discard(writer)
        self.in_flight -= 1
        self.check_idle()

    def check_idle(self) -> None:
        if self.in_flight == 0 and self.on_idle is not None:
            self.on_idle()

    def begin_drain(self, on_idle: Callable[[], None]) -> None:
        assert self.server is not None
        self.server.close()
        self.on_idle = on_idle
        self.check_idle()

    async def abort(self) -> int:
        cut, self.in_flight = self.in_flight, 0
        for writer in self.writers:
            writer.transport.abort()
        return cut


def readlink(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""


async def work(index: int, sock: socket.socket) -> int:
    registry, path = Registry(), DataPath()
    served = registry.counter("things_total", "Things.")

    async def metrics(body: Any) -> Any:
        served.at()[0] += 1
        return registry.snapshot()

    async def explain(body: Any) -> Any:
        return {"worker": index, "pid": os.getpid(), "asked": body}

    async def release(body: Any) -> Any:
        path.released.set()

    async def hang(body: Any) -> Any:
        if index == 0:
            await asyncio.sleep(60)
        return index

    async def stuck(body: Any) -> Any:
        if index == 0:
            time.sleep(60)  # noqa: ASYNC251  the loop is to stand still

    async def descriptors(body: Any) -> Any:
        names = [readlink(f"/proc/self/fd/{number}") for number in range(3, 200)]
        return sum(name.startswith("socket:") for name in names)

    handlers = {"metrics": metrics, "explain": explain, "release": release, "hang": hang, "stuck": stuck, "descriptors": descriptors}  # fmt: skip  # noqa: E501
    side = WorkerSide(path, handlers, settings=LIFECYCLE, log=log)
    await side.attach(sock)
    if SCENARIO == "failed_start" and index == 1:
        raise OSError("address in use")
    await path.start(PORT)
    side.ready()
    code = await side.wait()
    sys.stdout.write(f"worker {index} ends {code}\n")
    return code


def worker(index: int, sock: socket.socket) -> int:
    return run_to_the_end(work(index, sock), LOOP)


async def call(line: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(line.encode() + b"\n")
    try:
        return (await asyncio.wait_for(reader.read(), 10)).decode().strip()
    finally:
        writer.close()


def pids(supervisor: Supervisor) -> list[int]:
    return [seat.child.pid for seat in supervisor.seats if seat.child is not None]


async def until(read: Callable[[], Any]) -> None:
    async with asyncio.timeout(15):
        while not read():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def scenario_serve(supervisor: Supervisor, shutdown: Shutdown) -> None:
    answered = {int(await call("pid")) for _ in range(60)}
    assert answered <= set(pids(supervisor))
    assert len(answered) == 3
    assert os.getpid() not in answered
    assert supervisor.component().state == "3 of 3 running"
    assert supervisor.component().ready
    answer = await supervisor.ask_one("explain", {"a": [1, None, "ä"]})
    assert answer == {"worker": 0, "pid": pids(supervisor)[0], "asked": {"a": [1, None, "ä"]}}
    assert set(await supervisor.ask("hang", timeout_s=0.2)) == {1, 2}
    # Of its listener, its loop's two, and its channel: nothing of the supervisor's or of other workers.
    assert max((await supervisor.ask("descriptors")).values()) <= 5


async def scenario_metrics(supervisor: Supervisor, shutdown: Shutdown) -> None:
    assert things(await supervisor.snapshot()) == 3
    os.kill(pids(supervisor)[1], signal.SIGKILL)
    await until(lambda: supervisor.seats[1].child is None)
    assert things(await supervisor.snapshot()) == 5
    await until(lambda: all(seat.is_ready for seat in supervisor.seats))
    assert things(await supervisor.snapshot()) == 8


def things(snapshot: Any) -> Any:
    (family,) = [family for family in snapshot["families"] if family["name"] == "things_total"]
    return family["series"][0][1]


async def scenario_restart(supervisor: Supervisor, shutdown: Shutdown) -> None:
    for round_ in range(3):
        before = pids(supervisor)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: supervisor.seats[0].child is None)
        assert supervisor.component().ready
        await until(lambda: all(seat.is_ready for seat in supervisor.seats))
        after = pids(supervisor)
        assert after[0] not in before
        assert after[1:] == before[1:]
        assert supervisor.seats[0].failures == round_ + 1
    assert {int(await call("pid")) for _ in range(80)} == set(after)
    assert max((await supervisor.ask("descriptors")).values()) <= 5
    families = (await supervisor.snapshot())["families"]
    (restarts,) = [family for family in families if family["name"] == "outrigger_worker_restarts_total"]
    assert restarts["series"] == [([], 3)]
    assert (await supervisor.ask_one("explain"))["pid"] == after[0]


async def scenario_drain(supervisor: Supervisor, shutdown: Shutdown) -> None:
    held = [asyncio.ensure_future(call("hold")) for _ in range(6)]
    await until(lambda: supervisor.in_flight == 6)
    # A signal to the whole group, as from a terminal or systemd: only the supervisor takes it.
    for pid in pids(supervisor):
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: shutdown.phase.value == "draining")
    await until(lambda: refused())
    assert not any(one.done() for one in held)
    await supervisor.ask("release")
    for answer in await asyncio.gather(*held):
        assert answer.startswith("holding")
        assert len(answer.split()) == 3


def refused() -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", PORT)) != 0


async def scenario_cut(supervisor: Supervisor, shutdown: Shutdown) -> None:
    for _ in range(4):
        task = asyncio.ensure_future(call("hold"))
        task.add_done_callback(lambda done: done.exception())
    await until(lambda: supervisor.in_flight == 4)
    os.kill(os.getpid(), signal.SIGTERM)


async def scenario_stuck(supervisor: Supervisor, shutdown: Shutdown) -> None:
    task = asyncio.ensure_future(supervisor.ask("stuck", timeout_s=0.1))
    await task
    os.kill(os.getpid(), signal.SIGTERM)


async def scenario_orphans(supervisor: Supervisor, shutdown: Shutdown) -> None:
    print("pids", *pids(supervisor), flush=True)
    await asyncio.sleep(60)


async def scenario_failed_start(supervisor: Supervisor, shutdown: Shutdown) -> None:
    raise AssertionError("must not get here")


async def supervise(supervisor: Supervisor) -> int:
    shutdown = Shutdown(LIFECYCLE, supervisor, log=log)

    async def start() -> None:
        if not await supervisor.run(fork_lock=asyncio.Lock()):
            shutdown.post(Event.INTERRUPT)
            return
        shutdown.post(Event.STARTED)
        try:
            await globals()[f"scenario_{SCENARIO}"](supervisor, shutdown)
            print("scenario done", flush=True)
        except BaseException as error:
            print("FAILED", repr(error), flush=True)
            raise
        finally:
            if not shutdown.is_ending:
                shutdown.post(Event.TERMINATE)

    with handled({signal.SIGTERM: lambda: shutdown.post(Event.TERMINATE)}):
        starting = asyncio.ensure_future(start())
        code = await shutdown.wait()
        await starting
    return max(code, supervisor.exit_code)


def main() -> int:
    global PORT
    held = bind(SurfaceSettings(), reuse_port=True)
    PORT = held.getsockname()[1]
    settings = WorkerSettings(restart_first_s=0.05, restart_max_s=0.2, answer_s=5 if SCENARIO != "stuck" else 0.2)
    supervisor = Supervisor(3, worker, settings=settings, registry=Registry(), log=log, rng=Random(1))
    supervisor.fork_all()
    with asyncio.Runner(loop_factory=LOOP) as runner:
        code = runner.run(supervise(supervisor))
    held.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
