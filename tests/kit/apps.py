"""Applications for tests: real sockets, scripted answers, and what they have received."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass
class Received:
    """One request as the application read it."""

    line: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, by its lower-case name."""
        return [value for key, value in self.fields if key == name]


@dataclass
class RawApp:
    """A server whose `answer(received)` returns the bytes to send, or None to close without an answer.

    It closes after an answer that says `connection: close`.
    """

    answer: Callable[[Received], bytes | Awaitable[bytes | None] | None]
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    path: str = ""
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it listens, as configurations name it."""
        return f"unix:{self.path}" if self.path else f"http://127.0.0.1:{self.port}"

    async def start(self, port: int = 0, path: str = "") -> None:
        """Listen; port 0 picks one."""
        if path:
            self.path = path
            self._server = await asyncio.start_unix_server(self._serve, path)
            return
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and cut every connection."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            self._server = None
            for _ in range(100):  # an answer that waits for ever is left behind
                if not self._writers:
                    break
                await asyncio.sleep(0.005)
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while (request := await read_request(reader)) is not None:
                self.received.append(request)
                answer = self.answer(request)
                data = await answer if isinstance(answer, Awaitable) else answer
                if data is None:
                    break
                writer.write(data)
                await writer.drain()
                if b"\r\nconnection: close\r\n" in data:
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a cancelled handler would be logged as a failed one
        finally:
            self._writers.discard(writer)
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Received | None:
    """Read one request, its body included; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head[:-4].split(b"\r\n")
    fields = [(name.lower(), value.strip()) for name, _, value in (text.partition(b":") for text in lines)]
    named = dict(fields)
    body = b""
    if b"content-length" in named:
        body = await reader.readexactly(int(named[b"content-length"]))
    elif named.get(b"transfer-encoding") == b"chunked":
        while size := int((await reader.readline()).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        while (await reader.readline()) != b"\r\n":
            pass
    return Received(line, fields, body)


@asynccontextmanager
async def raw_app(
    answer: bytes | Callable[[Received], bytes | Awaitable[bytes | None] | None] = OK,
) -> AsyncIterator[RawApp]:
    """A running `RawApp`; a plain answer is given to every request."""
    app = RawApp(answer if callable(answer) else lambda _: answer)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


@asynccontextmanager
async def socket_app(handler: Handler) -> AsyncIterator[str]:
    """A server that does whatever `handler` does with a connection; yields its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except asyncio.CancelledError:
            pass  # it would be logged as a failure
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ask(address: tuple[str, int], data: bytes, *, wait_s: float = 10.0) -> bytes:
    """Send bytes and read until the server closes: for requests that say `Connection: close`, or are refused."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(data)
        async with asyncio.timeout(wait_s):
            return await reader.read()
    finally:
        writer.close()


def split_answer(data: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, fields (lower-case names) and the rest of one answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (text.partition(b":") for text in lines)}
    return int(line.split(b" ")[1]), fields, body
