"""Child processes of a bench: pinned to a core, waited for until they answer, and always ended."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from bench import procfs

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 8.0
_POLL_S = 0.001


class StartError(Exception):
    """A server ended, or did not answer in time; the message holds the end of what it wrote."""


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pin(core: int) -> list[str]:
    """The words before a command that keep it on one core."""
    return ["taskset", "-c", str(core)]


def status_of(port: int, path: str, headers: dict[str, str], timeout_s: float = 2.0) -> int:
    """Status code of one GET on a connection of its own. Raises OSError where nobody answers."""
    fields = {"Host": "bench", **headers, "Connection": "close"}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as conn:
        conn.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = conn.recv(4096)
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


class Process:
    """One server on one core. Its standard output goes to /dev/null, its errors to a file in `folder`."""

    def __init__(self, name: str, command: list[str], *, core: int, folder: Path) -> None:
        self.name = name
        self.errors = folder / f"{name}.err"
        self.started_s = time.perf_counter()
        with self.errors.open("wb") as errors:
            # A session of its own: Ctrl-C reaches only the bench, which then ends the whole group.
            self._popen = subprocess.Popen(
                [*pin(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=folder,
                start_new_session=True,
            )

    def wait_ready(self, port: int, path: str, headers: dict[str, str]) -> float:
        """Ask until the answer is 200; return the seconds since the start. Raises StartError."""
        last = "no answer"
        while time.perf_counter() - self.started_s < START_TIMEOUT_S:
            if self._popen.poll() is not None:
                raise StartError(f"{self.name} ended with status {self._popen.returncode}: {self._tail()}")
            try:
                status = status_of(port, path, headers)
            except OSError as error:
                last = str(error)
            else:
                if status == 200:
                    return time.perf_counter() - self.started_s
                last = f"status {status}"
            time.sleep(_POLL_S)
        raise StartError(f"{self.name} was not ready after {START_TIMEOUT_S:.0f} s ({last}): {self._tail()}")

    def pids(self) -> list[int]:
        """The process and its descendants."""
        return procfs.family(self._popen.pid)

    def stop(self) -> None:
        """Ask it to end, then make it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._popen.pid, number)
            except ProcessLookupError:
                break
            try:
                self._popen.wait(STOP_TIMEOUT_S if number == signal.SIGTERM else None)
            except subprocess.TimeoutExpired:
                continue
        self._popen.wait()

    def _tail(self) -> str:
        return self.errors.read_text(errors="replace").strip()[-500:] or "it wrote nothing"
