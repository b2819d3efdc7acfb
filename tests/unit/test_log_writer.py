"""Logs reach their descriptor in order, and a reader that doesn't read costs only logs."""

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.tasks import spawn
from agent.runtime.log_writer import LogWriter, pump
from agent.telemetry.access_log import AccessLog
from agent.telemetry.metrics import Registry
from agent.telemetry.process_log import ProcessLog


def entry(number: int) -> tuple[Any, ...]:
    repeated = (b"GET", "read-orders", 200, "", "app", "127.0.0.1:8000", "", 0, "inbound")
    return (*repeated, 1.0, b"a" * 32, 1, "10.1.2.3", b"/orders", "", str(number), "", 0.1, 0.1, 0.0, 0, 150)


def subjects(lines: bytes) -> list[int]:
    return [int(json.loads(line)["enduser.id"]) for line in lines.splitlines()]


def dropped(registry: Registry) -> dict[str, int]:
    family = next(one for one in registry.snapshot()["families"] if one["name"] == "outrigger_log_bytes_dropped_total")
    return {labels[0]: value for labels, value in family["series"]}  # type: ignore[misc]


class FullPipe:
    """A pipe of one page, that nobody reads until `read`."""

    def __init__(self) -> None:
        self.reader, self.fd = os.pipe()
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, 4096)
        self.writers: list[LogWriter] = []

    def writer(self, registry: Registry, *, queue_bytes: int = 10_000) -> LogWriter:
        writer = LogWriter(self.fd, registry, queue_bytes=queue_bytes)
        writer.start()
        self.writers.append(writer)
        return writer

    def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            found += os.read(self.reader, 65_536)
        return found


@pytest.fixture
def pipe() -> Iterator[FullPipe]:
    pipe = FullPipe()
    yield pipe
    os.close(pipe.reader)  # what is still writing gets EPIPE
    assert all(writer.close(10) for writer in pipe.writers)
    os.close(pipe.fd)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    yield fd, path
    os.close(fd)


def test_everything_arrives_in_order(file: tuple[int, Path]) -> None:
    fd, path = file
    registry = Registry()
    writer = LogWriter(fd, registry)
    assert writer.write(b"before the start\n")
    writer.start()
    for number in range(1000):
        assert writer.write(b"%d\n" % number)
    assert writer.flush(10)
    assert path.read_bytes() == b"before the start\n" + b"".join(b"%d\n" % number for number in range(1000))
    assert writer.pending_bytes == 0
    assert writer.close(10)
    assert dropped(registry) == {"full": 0, "error": 0}


def test_close_writes_what_is_queued_and_takes_no_more(file: tuple[int, Path]) -> None:
    fd, path = file
    registry = Registry()
    writer = LogWriter(fd, registry)
    writer.start()
    writer.write(b"last\n")
    assert writer.close(10)
    assert writer.close(10), "closing again does no harm"
    assert not writer.write(b"too late\n")
    assert path.read_bytes() == b"last\n"
    assert dropped(registry)["full"] == len(b"too late\n")
    assert writer.flush(10)


def fill(writer: LogWriter) -> int:
    """Write until something is dropped. Returns how many batches were taken."""
    for taken in range(100):
        if not writer.write(b"x" * 2999 + b"\n"):
            return taken
    raise AssertionError("the queue has no bound")


def test_a_pipe_that_nobody_reads_costs_only_logs(pipe: FullPipe) -> None:
    registry = Registry()
    writer = pipe.writer(registry)
    taken = fill(writer)
    assert 3 <= taken <= 4
    assert dropped(registry) == {"full": 3000, "error": 0}
    assert writer.pending_bytes <= 10_000
    began = time.monotonic()
    assert not writer.flush(0.05)
    assert not writer.close(0.05)
    assert time.monotonic() - began < 5


def test_a_reader_that_comes_back_gets_whole_lines_in_order(pipe: FullPipe) -> None:
    writer = pipe.writer(Registry())
    taken = fill(writer)
    assert pipe.read(taken * 3000) == (b"x" * 2999 + b"\n") * taken
    assert writer.flush(10)
    assert writer.write(b"again\n")
    assert pipe.read(6) == b"again\n"


def test_a_reader_that_has_gone_is_counted_and_ends_nothing() -> None:
    reader, fd = os.pipe()
    os.close(reader)
    registry = Registry()
    writer = LogWriter(fd, registry)
    writer.start()
    writer.write(b"one\n")
    writer.write(b"three\n")
    assert writer.flush(10)
    assert dropped(registry) == {"full": 0, "error": 10}
    assert writer.close(10)
    os.close(fd)


def test_a_descriptor_that_someone_made_non_blocking_loses_nothing(pipe: FullPipe) -> None:
    os.set_blocking(pipe.fd, False)
    registry = Registry()
    writer = pipe.writer(registry, queue_bytes=100_000)
    text = b"".join(b"%d\n" % number for number in range(10_000))
    writer.write(text)
    assert pipe.read(len(text)) == text
    assert writer.flush(10)
    assert dropped(registry) == {"full": 0, "error": 0}


async def test_the_event_loop_runs_on_while_the_pipe_is_full(pipe: FullPipe) -> None:
    registry = Registry()
    log = AccessLog(50, registry)
    writer = pipe.writer(registry, queue_bytes=60_000)
    pumping = spawn(pump(log, writer, 0.001), name="pump")
    sent = 0
    async with asyncio.timeout(20):
        while dropped(registry)["full"] == 0:
            for _ in range(60):
                log.record(entry(sent))
                sent += 1
            await asyncio.sleep(0.001)
    records_lost = next(
        one["series"][0][1]
        for one in registry.snapshot()["families"]
        if one["name"] == "outrigger_access_log_dropped_total"
    )
    assert isinstance(records_lost, int)
    assert records_lost >= 10
    assert dropped(registry)["error"] == 0
    assert writer.pending_bytes <= 60_000
    pumping.cancel()
    await asyncio.wait([pumping])
    assert not writer.close(0.05)


async def test_pump_brings_every_record_once_in_order(file: tuple[int, Path]) -> None:
    fd, path = file
    registry = Registry()
    log = AccessLog(10_000, registry)
    writer = LogWriter(fd, registry)
    writer.start()
    for number in range(3000):
        log.record(entry(number))
    pumping = spawn(pump(log, writer, 0.0), name="pump")
    async with asyncio.timeout(20):
        while len(log):  # noqa: ASYNC110  the pump tells nobody
            await asyncio.sleep(0)
    for number in range(3000, 3100):
        log.record(entry(number))
    pumping.cancel()
    await asyncio.wait([pumping])
    assert writer.close(10)
    assert subjects(path.read_bytes()) == list(range(3100))


@pytest.mark.parametrize("turns", range(1, 6))
async def test_a_pump_that_is_cancelled_at_any_moment_loses_nothing(file: tuple[int, Path], turns: int) -> None:
    fd, path = file
    log = AccessLog(10_000, Registry())
    writer = LogWriter(fd, Registry())
    writer.start()
    for number in range(500):
        log.record(entry(number))
    pumping = spawn(pump(log, writer, 0.0), name="pump")
    for _ in range(turns):
        await asyncio.sleep(0)
    pumping.cancel()
    await asyncio.wait([pumping])
    assert writer.close(10)
    assert subjects(path.read_bytes()) == list(range(500))


async def test_pump_ends_the_windows_of_the_process_log(file: tuple[int, Path]) -> None:
    fd, _ = file
    lines: list[bytes] = []
    now = 0.0
    process_log = ProcessLog(lines.append, repeat_limit=1, window_s=1, monotonic=lambda: now)
    for _ in range(3):
        process_log.logger("x").info("same")
    now = 2.0
    pumping = spawn(
        pump(AccessLog(1, Registry()), LogWriter(fd, Registry()), 0.0, process_log=process_log), name="pump"
    )
    async with asyncio.timeout(20):
        while len(lines) < 2:  # noqa: ASYNC110  the pump tells nobody
            await asyncio.sleep(0)
    pumping.cancel()
    await asyncio.wait([pumping])
    assert json.loads(lines[1])["repeated"] == 2
