"""CPU and memory accounting from /proc, on text and on a folder that looks like it."""

from pathlib import Path

import pytest

from bench import procfs


def stat_line(pid: int, name: str, parent: int, user: int, system: int) -> str:
    return f"{pid} ({name}) S {parent} {pid} {pid} 0 -1 4194560 500 0 0 0 {user} {system} 7 8 20 0 3 0 1234 55 66\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for pid, parent, user in ((10, 1, 100), (11, 10, 200), (12, 11, 300), (20, 1, 900)):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(stat_line(pid, f"p{pid}", parent, user, 50))
        (folder / "status").write_text(f"Name:\tp{pid}\nVmHWM:\t  9000 kB\nVmRSS:\t  {pid * 100} kB\n")
        (folder / "smaps_rollup").write_text(
            f"1-2 ---p 0 00:00 0 [rollup]\nRss: 9 kB\nPss:  {pid} kB\nPss_Anon: 3 kB\n"
        )
    (tmp_path / "self").mkdir()
    (tmp_path / "13").mkdir()  # ended while we looked
    return tmp_path


@pytest.mark.parametrize("name", ["nginx", "a b", "worker) S 9", "((", "tmux: server (x)"])
def test_stat_survives_any_process_name(name: str) -> None:
    stat = procfs.parse_stat(stat_line(5, name, 4, 150, 50), ticks_per_s=100)
    assert (stat.parent, stat.cpu_s) == (4, 2.0)


def test_family_is_the_process_and_all_below_it(proc: Path) -> None:
    assert procfs.family(10, proc) == [10, 11, 12]
    assert procfs.family(20, proc) == [20]


def test_cpu_is_summed_over_processes(proc: Path) -> None:
    ticks = procfs.parse_stat(stat_line(1, "x", 0, 1, 0)).cpu_s
    assert procfs.cpu_s([10, 11], proc) == pytest.approx(400 * ticks)
    assert procfs.cpu_s([], proc) == 0


def test_memory_is_summed_over_processes(proc: Path) -> None:
    assert procfs.memory([10, 12], proc) == procfs.Memory(2200, 22)


def test_missing_line_counts_as_nothing() -> None:
    assert procfs.parse_kib("Name:\tkthreadd\n", "VmRSS") == 0
