"""One worker's life: a data path like that of a single process, which answers to its supervisor."""

import asyncio
import base64
import pickle
import socket
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from agent.assembly.sidecar import Sidecar
from agent.assembly.sockets import Sockets
from agent.assembly.telemetry import Telemetry
from agent.config.root import Config
from agent.core.errors import OutriggerError
from agent.ports.operator import Question
from agent.runtime.channel import Answering
from agent.runtime.memory import give_back
from agent.runtime.worker_process import run_to_the_end
from agent.runtime.worker_side import WorkerSide


class Beginning(NamedTuple):
    """What a worker begins with: the fork brings it along."""

    config: Config
    level: str
    """The log level in force."""
    sockets: Sockets
    log_lock: int
    new_loop: Callable[[], asyncio.AbstractEventLoop]


def be_worker(beginning: Beginning, index: int, channel: socket.socket) -> int:
    """Serve until the supervisor says so, or is gone. The exit code."""
    try:
        return run_to_the_end(_work(beginning, index, channel), beginning.new_loop)
    except OutriggerError as error:
        print(f"error: worker {index}: {error}", file=sys.stderr)  # noqa: T201  its log isn't there yet
        return 1


async def _work(beginning: Beginning, index: int, channel: socket.socket) -> int:
    config, sockets = beginning.config, beginning.sockets
    telemetry = Telemetry(config, worker=index, lock=beginning.log_lock)
    telemetry.level = beginning.level
    inbound = sockets.bind_again("inbound")
    assert inbound is not None
    sidecar = Sidecar(config, telemetry, inbound, sockets.bind_again("outbound"), share=1 / config.workers)
    side = WorkerSide(
        sidecar, answers(sidecar), settings=config.lifecycle, log=telemetry.say, read_components=sidecar.components
    )
    await side.attach(channel)
    await sidecar.start(asyncio.Lock())
    side.ready()
    give_back()
    code = await side.wait()
    await sidecar.close()
    return code


def answers(sidecar: Sidecar) -> dict[str, Answering]:
    """What the supervisor may ask."""

    async def metrics(body: Any) -> Any:
        return await sidecar.snapshot()

    async def explain(body: Any) -> Any:
        try:
            return {"answer": dict(await sidecar.explain(Question(**body)))}
        except ValueError as error:
            return {"senseless": str(error)}

    async def use(body: Any) -> Any:
        await sidecar.use(unpacked(body))

    async def level(body: Any) -> Any:
        await sidecar.set_level(body)

    return {"metrics": metrics, "explain": explain, "use": use, "level": level}


def packed(config: Config) -> str:
    """A configuration for the channel. Not read from the file again: all workers must mean the same."""
    return base64.b64encode(pickle.dumps(config)).decode()


def unpacked(text: str) -> Config:
    """What `packed` made. The channel has only our own process at its other end."""
    config = pickle.loads(base64.b64decode(text))  # noqa: S301
    assert isinstance(config, Config)
    return config
