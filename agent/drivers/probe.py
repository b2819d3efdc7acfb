"""One HTTP GET that reads no more than the status, and one connect: how to see whether something is there."""

import asyncio
import ssl

from agent.core.address import Address
from agent.core.errors import OutriggerError

_MAX_LINE = 8192


class ProbeError(OutriggerError):
    """No status came; the sentence says why."""


async def probe(address: Address, path: str, timeout_s: float) -> int:
    """The status of `GET path`, over a connection of its own. Raises ProbeError where none comes in time.

    A certificate isn't verified: the question is whether the peer is alive, and nothing is sent that could be stolen.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _status(address, path)
    except TimeoutError:
        raise ProbeError(f"no answer from {address} within {timeout_s:g} s") from None
    except (OSError, EOFError, asyncio.LimitOverrunError) as error:
        raise ProbeError(_why(address, error)) from None


async def reachable(address: Address, timeout_s: float) -> bool:
    """Whether it accepts a connection. One that doesn't answer in time counts as there: it is only slow."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await _connect(address, limit=_MAX_LINE, tls=False)
    except TimeoutError:
        return True
    except OSError:
        return False
    writer.transport.abort()
    return True


async def _connect(address: Address, *, limit: int, tls: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.scheme == "unix":
        return await asyncio.open_unix_connection(address.path, limit=limit)
    return await asyncio.open_connection(
        address.host, address.port, limit=limit, ssl=_any_certificate() if tls else None
    )


async def _status(address: Address, path: str) -> int:
    reader, writer = await _connect(address, limit=_MAX_LINE, tls=address.is_tls)
    try:
        lines = (
            f"GET {path} HTTP/1.1",
            f"Host: {address.authority}",
            "User-Agent: outrigger-probe",
            "Connection: close",
        )
        writer.write("\r\n".join((*lines, "", "")).encode())
        while True:
            line = await reader.readuntil(b"\n")
            status = _parse(line, address)
            if status >= 200:
                return status
            while (await reader.readuntil(b"\n")).strip():
                pass  # the fields of a 1xx; the real answer follows
    finally:
        writer.transport.abort()


def _parse(line: bytes, address: Address) -> int:
    parts = line.split(None, 2)
    if len(parts) >= 2 and parts[0].startswith(b"HTTP/1.") and len(parts[1]) == 3 and parts[1].isdigit():
        return int(parts[1])
    raise ProbeError(f"{address} answered something that is no HTTP/1.1: {line[:40]!r}")


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _why(address: Address, error: Exception) -> str:
    if isinstance(error, asyncio.IncompleteReadError):
        return f"{address} closed the connection before it answered"
    if isinstance(error, ConnectionRefusedError):
        return f"{address} refuses connections"
    return f"{address}: {error}"
