"""A client for tests: one connection, any bytes, and a strict reading of the answer."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple


class Answer(NamedTuple):
    """One complete answer. Reading a cut one raises asyncio.IncompleteReadError or ConnectionError instead."""

    status: int
    fields: dict[str, str]
    """Lower-case names; of a repeated field the last value."""
    lines: list[str]
    body: bytes

    @property
    def code(self) -> str:
        """The stable code of a refusal, ``""`` where the sidecar refused nothing."""
        return self.fields.get("x-outrigger-reason", "")

    @property
    def origin(self) -> str:
        """Who made it."""
        return self.fields.get("x-outrigger-origin", "")


class Client:
    """One keep-alive connection. `closed` says that the last answer ended it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.closed = False

    async def request(
        self,
        method: str = "GET",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        chunked: bool = False,
        wait_s: float = 30.0,
    ) -> Answer:
        """Send one request and read its answer."""
        async with asyncio.timeout(wait_s):
            self.writer.write(request_bytes(method, path, headers, body, chunked=chunked))
            return await self.read(method)

    async def read(self, method: str = "GET") -> Answer:
        """Read one answer; 1xx are skipped."""
        while True:
            head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1")
            first, *lines = head.split("\r\n")
            status = int(first.split(" ")[1])
            if status >= 200:
                break
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.closed = fields.get("connection") == "close"
        return Answer(status, fields, lines, await self._body(method, status, fields))

    async def _body(self, method: str, status: int, fields: Mapping[str, str]) -> bytes:
        if method == "HEAD" or status in (204, 304):
            return b""
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readuntil(b"\r\n")
            return body
        if "content-length" in fields:
            return await self.reader.readexactly(int(fields["content-length"]))
        return await self.reader.read() if self.closed else b""

    def close(self) -> None:
        """Leave, at once: unsent bytes are dropped."""
        self.writer.transport.abort()


def request_bytes(
    method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"", *, chunked: bool = False
) -> bytes:
    """A request as it goes over the wire; Host is `localhost` unless the headers name another."""
    fields = {"Host": "localhost", **(headers or {})}
    if chunked:
        fields["Transfer-Encoding"] = "chunked"
        pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif body or method in ("POST", "PUT", "PATCH"):
        fields["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


@asynccontextmanager
async def client(address: tuple[str, int]) -> AsyncIterator[Client]:
    """A connected client."""
    connected = Client(*await asyncio.open_connection(*address))
    try:
        yield connected
    finally:
        connected.close()


async def fetch(
    address: tuple[str, int],
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    chunked: bool = False,
) -> Answer:
    """One request on a connection of its own, which ends with it."""
    async with client(address) as one:
        return await one.request(method, path, {"Connection": "close", **(headers or {})}, body, chunked=chunked)
