"""The sidecar as users run it: a process of its own, with a configuration file and a log."""

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.kit.apps import ask, split_answer

LISTEN = {
    "inbound": {"host": "127.0.0.1", "port": 0},
    "local": {"port": 0},
    "admin": {"port": 0},
    "outbound": {"port": 0},
}
LISTENING = "listening"
"""The log's message that names the addresses."""
_START_S = 20.0


class RunningSidecar:
    """One `outrigger run`. Addresses are (host, port)."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.file = folder / "outrigger.yaml"
        self._log = folder / "outrigger.log"
        self.listening: dict[str, str] = {}
        self.process: asyncio.subprocess.Process | None = None
        self.write(config)

    def write(self, config: Mapping[str, Any]) -> None:
        """Write the configuration; ports that aren't given are picked by the kernel."""
        self.file.write_text(yaml.safe_dump({"listen": LISTEN, **config}))

    async def start(self) -> None:
        """Run it and wait until it says that it listens, and where."""
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent", "run", "-c", str(self.file), stdout=log, stderr=log
            )
        async with asyncio.timeout(_START_S):
            while not self.listening:
                if self.process.returncode is not None:
                    raise AssertionError(f"the sidecar ended with {self.process.returncode}:\n{self._log.read_text()}")
                told = [line for line in self.log() if line.get("message") == LISTENING]
                if told:
                    self.listening = {name: told[-1][name] for name in LISTEN if name in told[-1]}
                else:
                    await asyncio.sleep(0.02)

    def address(self, surface: str) -> tuple[str, int]:
        """Where a surface listens."""
        host, _, port = self.listening[surface].rpartition(":")
        return host, int(port)

    @property
    def inbound(self) -> tuple[str, int]:
        """Where clients come in."""
        return self.address("inbound")

    @property
    def pid(self) -> int:
        """The process."""
        assert self.process is not None
        return self.process.pid

    def log(self) -> list[dict[str, Any]]:
        """Every log line so far; lines that are no JSON become `{"text": …}`."""
        lines = []
        for line in self._log.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                lines.append({"text": line})
        return lines

    async def access_log(self, count: int, *, wait_s: float = 5.0) -> list[dict[str, Any]]:
        """The access-log lines, once there are at least `count`."""
        async with asyncio.timeout(wait_s):
            while True:
                lines = [line for line in self.log() if "outrigger.direction" in line]
                if len(lines) >= count:
                    return lines
                await asyncio.sleep(0.02)

    async def line_of(self, path: str) -> dict[str, Any]:
        """The first access-log line of this path."""
        async with asyncio.timeout(5):
            while True:
                for line in self.log():
                    if line.get("url.path") == path:
                        return line
                await asyncio.sleep(0.02)

    async def admin(self, path: str, body: Any = None, method: str = "") -> tuple[int, bytes]:
        """Ask the operators' endpoints: (status, body)."""
        data = b"" if body is None else json.dumps(body).encode()
        method = method or ("GET" if body is None else "POST")
        lines = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        lines += f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        status, _, answer = split_answer(await ask(self.address("admin"), lines.encode() + data))
        return status, answer

    async def metric(self, name: str, **labels: str) -> float:
        """The value of one series; 0 where there is none."""
        _, text = await self.admin("/metrics")
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in text.decode().splitlines():
            series, _, value = line.rpartition(" ")
            family, _, rest = series.partition("{")
            if family == name and wanted <= set(rest.rstrip("}").split(",")):
                return float(value)
        return 0.0

    async def until_metric(self, is_so: Callable[[float], bool], name: str, **labels: str) -> float:
        """Wait until a series has a value that is so."""
        async with asyncio.timeout(10):
            while not is_so(value := await self.metric(name, **labels)):  # noqa: ASYNC110  another process counts
                await asyncio.sleep(0.02)
        return value

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, wait_s: float = 40.0) -> int:
        """Send a signal and wait for the end: the exit status."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(wait_s):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise


@asynccontextmanager
async def sidecar(config: Mapping[str, Any]) -> AsyncIterator[RunningSidecar]:
    """A running sidecar with this configuration; killed at the end if it still runs."""
    with tempfile.TemporaryDirectory(prefix="outrigger-") as folder:
        running = RunningSidecar(Path(folder), config)
        await running.start()
        try:
            yield running
        finally:
            if running.process is not None and running.process.returncode is None:
                running.process.kill()
                await running.process.wait()
