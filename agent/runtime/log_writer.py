"""The rim of the logs: a thread that writes, so that a blocked standard output never stalls the event loop."""

import asyncio
import fcntl
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from agent.telemetry.access_log import AccessLog
from agent.telemetry.metrics import Registry
from agent.telemetry.process_log import ProcessLog

_RECORDS_AT_A_TIME = 64
"""Records encoded between two turns of the event loop: about 0.2 ms."""
_MOST_RECORDS_AT_A_TIME = 512
"""The same where many wait: about 1.5 ms, and at most 5 MiB of the longest lines, usually 250 KiB."""
_WRITE_BYTES = 262_144
"""What `pump` collects before it wakes the thread."""


class LogWriter:
    """Writes batches of whole lines to a file descriptor, in order, from a queue of at most `queue_bytes`.

    What doesn't fit is dropped and counted, and so is what the descriptor refuses (a reader that has gone, a full
    disk). The event loop calls `write`; each counter and each sum has one thread that changes it, so there is no lock.

    Processes that share a pipe need one (`shared_lock`): a write of more than PIPE_BUF bytes may be cut anywhere, and
    another's lines would stand in the middle of ours.
    """

    __slots__ = (
        "_closed",
        "_fd",
        "_lock",
        "_queue",
        "_queue_bytes",
        "_queued",
        "_refused",
        "_squeezed",
        "_thread",
        "_written",
    )

    def __init__(self, fd: int, registry: Registry, *, queue_bytes: int = 4_194_304, lock: int | None = None) -> None:
        """`lock` is what `shared_lock` returned, where other processes write to `fd` too."""
        dropped = registry.counter(
            "outrigger_log_bytes_dropped_total",
            "Bytes of logs that were lost: the reader is too slow (full) or the descriptor failed (error).",
            ("reason",),
        )
        self._squeezed = dropped.at("full")
        self._refused = dropped.at("error")
        self._fd = fd
        self._lock = lock
        self._queue: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        self._queue_bytes = queue_bytes
        self._queued = 0
        self._written = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Call it after a fork, never before: threads don't survive one."""
        # A daemon, because nothing can interrupt a write to a pipe that nobody reads: exiting must not wait for it.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def pending_bytes(self) -> int:
        """Bytes that are taken and not yet written or dropped."""
        return self._queued - self._written

    def write(self, lines: bytes) -> bool:
        """Queue whole lines without waiting. False where they were dropped and counted."""
        if self._closed or self.pending_bytes + len(lines) > self._queue_bytes:
            self._squeezed[0] += len(lines)
            return False
        self._queued += len(lines)
        self._queue.put(lines)
        return True

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was taken so far is written; False where that took too long. Blocks the calling thread."""
        if self._thread is None or not self._thread.is_alive():
            return self.pending_bytes == 0
        reached = threading.Event()
        self._queue.put(reached)
        return reached.wait(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Take nothing more and wait until all is written; False where that took too long. Blocks the calling thread.

        The descriptor stays open. Closing again waits again.
        """
        self._closed = True
        if self._thread is not None and self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout_s)
        return self.pending_bytes == 0

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                with _locked(self._lock):
                    _write_all(self._fd, item)
            except OSError:
                self._refused[0] += len(item)
            self._written += len(item)


def shared_lock() -> int:
    """A descriptor that processes share by forking, for `LogWriter(lock=…)`. A process that dies lets go of it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("log-lock")
    import tempfile  # noqa: PLC0415  only where there is no memory file

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@contextmanager
def _locked(lock: int | None) -> Iterator[None]:
    if lock is None:
        yield
        return
    fcntl.lockf(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(lock, fcntl.LOCK_UN)


def _write_all(fd: int, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:  # whoever shares the descriptor has made it non-blocking
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


async def pump(
    access_log: AccessLog, writer: LogWriter, interval_s: float, *, process_log: ProcessLog | None = None
) -> None:
    """Bring the access log to the writer every `interval_s` seconds, until cancelled; then bring what is left.

    Also ends the windows of the process log's repetitions.
    """
    try:
        while True:
            await asyncio.sleep(interval_s)
            if process_log is not None:
                process_log.tick()
            await _bring(access_log, writer)
    finally:
        while lines := access_log.drain(_RECORDS_AT_A_TIME):
            writer.write(lines)


async def _bring(access_log: AccessLog, writer: LogWriter) -> None:
    batches: list[bytes] = []
    size = 0
    try:
        # More of a long queue, so that thousands of connections, served in one turn, don't outrun the pump.
        while lines := access_log.drain(min(max(_RECORDS_AT_A_TIME, len(access_log) // 4), _MOST_RECORDS_AT_A_TIME)):
            batches.append(lines)
            size += len(lines)
            if size >= _WRITE_BYTES:
                writer.write(b"".join(batches))
                batches, size = [], 0
            await asyncio.sleep(0)
    finally:
        if batches:
            writer.write(b"".join(batches))
