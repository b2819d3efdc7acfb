"""Large bodies as cheaply as Python allows: blocking sockets in threads, a megabyte at a time."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 1 << 20
CHUNK = b"100000\r\n%b\r\n" % bytes(MIB)
"""A chunk of one MiB as it stands on the wire."""


@contextmanager
def blocking_app(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """An application that serves each connection by `serve` in a thread of its own; yields its URL."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=run, args=(connection,), daemon=True).start()

    def run(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """A head with its blank line, and what came after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            raise ConnectionError(f"ended after {data!r}")
        data += received
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def take(connection: socket.socket, count: int) -> int:
    """Read and throw away up to `count` bytes; returns how many there were."""
    buffer, taken = bytearray(MIB), 0
    while taken < count and (received := connection.recv_into(buffer, min(MIB, count - taken))):
        taken += received
    return taken


def take_chunks(connection: socket.socket, rest: bytes) -> int:
    """Read a chunked body to its end, which has to be well formed; returns its size."""
    stream = _Stream(connection, rest)
    total = 0
    while size := int(stream.line(), 16):
        stream.skip(size)
        total += size
        assert stream.line() == b""
    assert stream.line() == b""
    return total


class _Stream:
    """Bytes that were read already, then those of the connection."""

    def __init__(self, connection: socket.socket, rest: bytes) -> None:
        self._connection, self._rest = connection, rest

    def line(self) -> bytes:
        while b"\r\n" not in self._rest:
            received = self._connection.recv(65536)
            if not received:
                raise ConnectionError("ended within a chunked body")
            self._rest += received
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line

    def skip(self, count: int) -> None:
        taken = min(count, len(self._rest))
        self._rest = self._rest[taken:]
        if take(self._connection, count - taken) != count - taken:
            raise ConnectionError("ended within a chunk")


class Memory:
    """How much a process has grown since this was made, in MiB, at its worst moment."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        (self._folder / "clear_refs").write_text("5")  # the peak begins anew
        self.before = self._read("VmRSS")

    def grown(self) -> float:
        return self._read("VmHWM") - self.before

    def _read(self, name: str) -> float:
        status = (self._folder / "status").read_text()
        return int(status.split(name + ":")[1].split()[0]) / 1024
