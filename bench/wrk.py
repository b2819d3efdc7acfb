"""Closed-loop load by wrk, and reading what it reports."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).parent / "lua" / "load.lua"
_MARK = "BENCH "
ERRORS = ("connect", "read", "write", "status", "timeout")


class LoadError(Exception):
    """The load generator could not run, or said something that we don't understand."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send, and how hard."""

    url: str
    seconds: float
    connections: int = 64
    method: str = "GET"
    body_bytes: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    tokens: Path | None = None
    """A file of bearer tokens: each is sent once, and the run ends with the last."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it."""

    requests: int
    duration_s: float
    errors: Mapping[str, int]
    """Only the kinds that happened; `status` counts answers of 400 and above."""

    @property
    def rps(self) -> float:
        """Completed requests per second."""
        return self.requests / self.duration_s if self.duration_s else 0.0


def parse(output: str) -> Report:
    """Read the line that `lua/load.lua` prints at the end. Raises LoadError where there is none.

    wrk counts as completed also what was answered with an error, so a case with errors is invalid, not slower.
    """
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if not lines:
        raise LoadError(f"wrk printed no result line; it said: {output.strip()[-300:] or 'nothing'}")
    try:
        values = json.loads(lines[-1].removeprefix(_MARK))
        errors = {kind: int(values[kind]) for kind in ERRORS if values[kind]}
        return Report(int(values["requests"]), values["duration_us"] / 1e6, errors)
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(f"wrk's result line can't be read ({error}): {lines[-1]}") from error


def command(load: Load) -> list[str]:
    """The command line, without pinning."""
    # wrk takes whole seconds; a run over tokens ends by itself.
    words = ["wrk", "-t", "1", "-c", str(load.connections), "-d", f"{max(1, round(load.seconds))}s", "-s", str(SCRIPT)]
    for name, value in load.headers.items():
        words += ["-H", f"{name}: {value}"]
    return [*words, load.url, "--", load.method, str(load.body_bytes), str(load.tokens or "-")]


def run(load: Load, pin: list[str]) -> Report:
    """Send the load and wait until it is over. `pin` is put before the command (see `bench.process.pin`)."""
    done = subprocess.run([*pin, *command(load)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"wrk ended with status {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return parse(done.stdout)
