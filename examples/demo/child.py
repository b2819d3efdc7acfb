"""A process of the demo's: started with a log file, ended for certain."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PR_SET_PDEATHSIG = 1
_END_S = 10.0
_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """Have the kernel end this child where the demo itself is killed and can't clean up. Linux only."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One process. Its own session: Ctrl-C reaches the demo alone, which then ends everything in order."""

    def __init__(self, name: str, log: Path, *arguments: str, **environment: str) -> None:
        self.name = name
        self.log = log
        self._arguments = arguments
        self._environment: Mapping[str, str] = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, or start it again."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def is_running(self) -> bool:
        """Whether it has been started and hasn't ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, wait, and kill it where it doesn't; the exit status."""
        process = self._process
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        try:
            async with asyncio.timeout(_END_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()
