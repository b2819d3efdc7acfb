"""Open-loop load at a fixed rate: what a request waits when the sender doesn't wait for the proxy.

Runs as a process of its own (`python -m bench.latency`) on the backend's core. Requests are due at fixed times, and
a latency counts from the moment its request was due, so a stall is charged to every request that it held up
(no coordinated omission). A kernel timer paces it: an event loop's own timers tick in whole milliseconds.
"""

import ctypes
import gc
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from bench import stats, wrk

CONNECTIONS = 16
_STALL_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: `request` is the whole head as text."""

    port: int
    request: str
    rate: int
    warm_s: float
    measured_s: float


@dataclass(frozen=True, slots=True)
class Latencies:
    """Milliseconds from due time to the last byte."""

    p50_ms: float
    p99_ms: float
    p999_ms: float
    answered: int
    failed: int
    """Answers that weren't 200, and broken connections."""


def answer_length(data: bytes) -> int:
    """Bytes of the first answer in `data`, head and body; 0 while its head is incomplete. It must carry a length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = data[:end].lower() + b"\r\n"
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise wrk.LoadError(f"an answer without Content-Length: {head[:200]!r}")
    return end + 4 + int(head[at + 17 : head.index(b"\r\n", at + 2)])


def metronome(interval_s: float) -> int:
    """A timerfd that becomes readable at every interval. `os.timerfd_create` is only in Python 3.13."""
    libc = ctypes.CDLL(None, use_errno=True)
    clock_monotonic, nonblocking = 1, 0o4000
    descriptor = int(libc.timerfd_create(clock_monotonic, nonblocking))
    seconds, nanoseconds = divmod(round(interval_s * 1e9), 1_000_000_000)
    spec = (ctypes.c_long * 4)(seconds, nanoseconds, seconds, nanoseconds)
    if descriptor < 0 or libc.timerfd_settime(descriptor, 0, spec, None):
        raise OSError(ctypes.get_errno(), "the kernel refused a timer")
    return descriptor


class Sender:
    """Sixteen connections with one request each in flight; what is due while all are busy waits its turn."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.request = plan.request.encode()
        self.conns: dict[int, socket.socket] = {}
        self.idle: deque[socket.socket] = deque()
        self.due: deque[float] = deque()
        self.due_of: dict[int, float] = {}
        self.received: dict[int, bytes] = {}
        self.results: list[tuple[float, float]] = []
        self.failed = 0
        for _ in range(CONNECTIONS):
            conn = socket.create_connection(("127.0.0.1", plan.port))
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn.setblocking(False)
            self.conns[conn.fileno()] = conn
            self.idle.append(conn)

    def run(self) -> None:
        """Send until the plan's time is over and everything is answered."""
        interval = 1 / self.plan.rate
        total = int((self.plan.warm_s + self.plan.measured_s) * self.plan.rate)
        poll, timer = select.epoll(), metronome(interval)
        for descriptor in (timer, *self.conns):
            poll.register(descriptor, select.EPOLLIN)
        started, planned = time.perf_counter(), 0
        while planned < total or self.due or self.due_of:
            events = poll.poll(_STALL_S)
            if not events:
                raise wrk.LoadError(f"no answer for {_STALL_S:.0f} s with {len(self.due_of)} requests in flight")
            for descriptor, _ in events:
                if descriptor != timer:
                    self._read(descriptor)
                    continue
                # A late wake-up reports all that it missed, and each of those keeps its own due time.
                for _ in range(min(int.from_bytes(os.read(timer, 8), sys.byteorder), total - planned)):
                    planned += 1
                    self.due.append(started + planned * interval)
            while self.due and self.idle:
                self._send(self.idle.pop(), self.due.popleft())

    def _send(self, conn: socket.socket, due: float) -> None:
        self.due_of[conn.fileno()] = due
        self.received[conn.fileno()] = b""
        conn.send(self.request)

    def _read(self, descriptor: int) -> None:
        conn = self.conns[descriptor]
        chunk = conn.recv(65536)
        now = time.perf_counter()
        if not chunk or descriptor not in self.due_of:
            raise wrk.LoadError("the proxy closed a kept connection, or answered what it was not asked")
        data = self.received[descriptor] = self.received[descriptor] + chunk
        length = answer_length(data)
        if length and len(data) >= length:
            due = self.due_of.pop(descriptor)
            self.results.append((due, now - due))
            self.failed += not data.startswith(b"HTTP/1.1 200")
            self.idle.append(conn)

    def summary(self) -> Latencies:
        """Percentiles of what was due after the warm-up."""
        self.results.sort()
        measured = [seconds * 1000 for _, seconds in self.results[int(self.plan.warm_s * self.plan.rate) :]]
        p50, p99, p999 = (round(stats.percentile(measured, percent), 4) for percent in (50, 99, 99.9))
        return Latencies(p50, p99, p999, len(measured), self.failed)


def measure(plan: Plan, pin: list[str]) -> Latencies:
    """Run the plan in a process of its own. Raises LoadError."""
    values = {name: getattr(plan, name) for name in Plan.__slots__}
    root = Path(__file__).parents[1]
    command = [*pin, sys.executable, "-m", "bench.latency"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, cwd=root, check=False)
    if done.returncode:
        raise wrk.LoadError(f"the latency client failed: {done.stderr.strip()[-300:]}")
    return Latencies(**json.loads(done.stdout))


def main() -> None:
    """Read a plan from standard input, carry it out, print the result as JSON."""
    plan = Plan(**json.load(sys.stdin))
    sender = Sender(plan)
    gc.disable()
    sender.run()
    summary = sender.summary()
    print(json.dumps({name: getattr(summary, name) for name in Latencies.__slots__}))


if __name__ == "__main__":
    main()
