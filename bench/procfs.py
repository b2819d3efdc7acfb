"""What the kernel says about processes: CPU time, memory, children."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that the bench reads."""

    parent: int
    cpu_s: float
    """User and system time of all threads, ended ones included."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one or several processes, in KiB."""

    rss_kib: int
    pss_kib: int
    """Pages that n processes share count 1/n for each: what the process would free by ending."""


def parse_stat(text: str, ticks_per_s: int = _TICKS_PER_S) -> Stat:
    """Read a line of /proc/PID/stat. The name is in parentheses and may itself hold blanks and parentheses."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(parent=int(fields[1]), cpu_s=(int(fields[11]) + int(fields[12])) / ticks_per_s)


def parse_kib(text: str, key: str) -> int:
    """Read one `Key:   123 kB` line of /proc/PID/status or smaps_rollup; 0 where it isn't there."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    return 0


def cpu_s(pids: Iterable[int], proc: Path = PROC) -> float:
    """CPU seconds that these processes have used so far."""
    return sum(parse_stat((proc / str(pid) / "stat").read_text()).cpu_s for pid in pids)


def memory(pids: Iterable[int], proc: Path = PROC) -> Memory:
    """Resident memory of these processes together."""
    rss = pss = 0
    for pid in pids:
        rss += parse_kib((proc / str(pid) / "status").read_text(), "VmRSS")
        pss += parse_kib((proc / str(pid) / "smaps_rollup").read_text(), "Pss")
    return Memory(rss, pss)


def family(pid: int, proc: Path = PROC) -> list[int]:
    """The process and all its descendants, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                stat = parse_stat((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(stat.parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(sorted(children.get(member, ())))
    return found
