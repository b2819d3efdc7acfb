"""Supervisor and workers as real processes: serve, die, are restarted, drain, are cut, and leave no orphan."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.proxy.listener import BindError, bind
from agent.proxy.settings import SurfaceSettings
from agent.runtime.gather import Gathered
from agent.telemetry.metrics import Registry

PROGRAM = "tests.unit.worker_program"
ROOT = Path(__file__).parents[2]


def run(loop: str, scenario: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", PROGRAM, loop, scenario, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("scenario", ["serve", "metrics", "restart", "drain"])
def test_scenario_ends_clean(loop: str, scenario: str) -> None:
    done = run(loop, scenario)
    assert "scenario done" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count(" ends 0") == 3
    assert "every accepted request was finished" in done.stdout


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_deadline_cuts_and_counts_over_all_workers(loop: str) -> None:
    done = run(loop, "cut", "0.3")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "4 requests were cut off" in done.stdout


def test_worker_that_hangs_is_killed_in_the_end() -> None:
    done = run("uvloop", "stuck", "0.3")
    assert "worker 0 doesn't end: killed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 128 + signal.SIGKILL


def test_failed_start_ends_at_once_with_its_reason() -> None:
    done = run("uvloop", "failed_start")
    assert done.returncode == 70, done.stdout + done.stderr
    assert "worker 1 could not start" in done.stdout
    assert "address in use" in done.stderr
    assert "started again" not in done.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_orphans(number: signal.Signals) -> None:
    command = [sys.executable, "-m", PROGRAM, "uvloop", "orphans", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("pids"))
        pids = [int(pid) for pid in line.split()[1:]]
        assert len(pids) == 3
        assert all(is_running(pid) for pid in pids)
        process.send_signal(number)
        ends = time.monotonic() + 20
        while any(is_running(pid) for pid in pids):
            assert time.monotonic() < ends, "workers outlive their supervisor"
            time.sleep(0.02)
        process.kill()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_held_port_is_shared_but_never_answers() -> None:
    with bind(SurfaceSettings(), reuse_port=True) as held, socket.socket() as client, socket.socket() as stranger:
        settings = SurfaceSettings(port=held.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", settings.port))
        assert client.connect_ex(("127.0.0.1", settings.port)) != 0
        with bind(settings, reuse_port=True) as worker:
            worker.listen()
            worker.setblocking(True)
            with socket.create_connection(("127.0.0.1", settings.port)):
                worker.accept()[0].close()
            with pytest.raises(BindError, match="in use"):
                bind(settings)


def test_gathered_counters_never_fall() -> None:
    def worker(count: int, gauge: float) -> Registry:
        registry = Registry()
        registry.counter("a_total", "A.").at()[0] = count
        registry.gauge("g", "G.").at()[0] = gauge
        return registry

    def values(gathered: Gathered) -> tuple[object, object]:
        families = {family["name"]: family["series"] for family in gathered.view(Registry().snapshot())["families"]}
        return families["a_total"][0][1], families["g"][0][1]

    gathered = Gathered()
    gathered.answered(0, worker(10, 1).snapshot())
    gathered.answered(1, worker(5, 2).snapshot())
    assert values(gathered) == (15, 3)
    gathered.answered(0, worker(12, 1).snapshot())
    assert values(gathered) == (17, 3)
    gathered.died(0)
    assert values(gathered) == (17, 2)
    gathered.answered(0, worker(1, 4).snapshot())
    gathered.died(7)
    assert values(gathered) == (18, 6)
    gathered.died(0)
    gathered.answered(0, worker(1, 0).snapshot())
    assert values(gathered) == (19, 2)
