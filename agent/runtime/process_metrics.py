"""What the process itself costs, under the names that every Prometheus client uses; read when somebody looks."""

import os
import resource
from pathlib import Path

from agent.runtime.memory import resident_bytes
from agent.telemetry.metrics import Registry

_SELF = Path("/proc/self")


def measure_process(registry: Registry, *, worker: int | None = None) -> None:
    """Declare the process's metrics. Of several processes CPU and memory are added up.

    A worker's own share stands under its number as well, so that one that does all the work, or grows, is seen.
    """
    cpu = registry.counter("process_cpu_seconds_total", "Processor time, user and system.")
    cpu.watch(_cpu_s)
    memory = registry.gauge("process_resident_memory_bytes", "Resident memory; of several processes the sum.")
    memory.watch(resident_bytes)
    files = registry.gauge(
        "process_open_fds", "Open files; of several processes of the one that has most.", combine="max"
    )
    files.watch(lambda: len(os.listdir(_SELF / "fd")) - 1)  # noqa: PTH208  names are enough: there may be ten thousand
    limit = registry.gauge("process_max_fds", "Open files that one process may have.", combine="max")
    limit.watch(lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if worker is None:
        start = registry.gauge("process_start_time_seconds", "When the process began, since the Unix epoch.")
        start.watch(_began_at)
    else:
        labels = ("worker",)
        registry.counter("outrigger_worker_cpu_seconds_total", "Processor time of each worker.", labels).watch(
            _cpu_s, str(worker)
        )
        registry.gauge("outrigger_worker_resident_memory_bytes", "Resident memory of each worker.", labels).watch(
            resident_bytes, str(worker)
        )


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _began_at() -> float:
    """Ticks since the system's start (proc(5), field 22; the name in field 2 may hold blanks) and when that was."""
    ticks = int((_SELF / "stat").read_text().rpartition(")")[2].split()[19])
    lines = Path("/proc/stat").read_text().splitlines()
    booted_at = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    return booted_at + ticks / os.sysconf("SC_CLK_TCK")
