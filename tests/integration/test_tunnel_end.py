"""How upgraded connections end: both sides have said that they are done, so nothing is left open."""

import asyncio
import signal

from tests.kit.apps import socket_app
from tests.kit.sidecar import sidecar

UPGRADE = b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(SWITCHED)
    while data := await reader.read(4096):
        writer.write(data)
    writer.write(b"bye")
    writer.close()


async def test_a_tunnel_whose_both_ends_have_finished_is_over() -> None:
    async with socket_app(echo) as url, sidecar({"app": {"url": url}}) as running:
        reader, writer = await asyncio.open_connection(*running.inbound)
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"ahoy")
        assert await reader.readexactly(4) == b"ahoy"
        writer.write_eof()
        assert await reader.read() == b"bye", "what the application sends after the client's half-close still arrives"
        writer.close()
        (line,) = await running.access_log(1)
        assert (line["http.response.status_code"], line["http.response.body.size"]) == (101, 7)
        assert await running.stop(signal.SIGINT, wait_s=10) == 0
