"""Wait for a condition, and no longer: for what other tasks and threads bring about."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(condition: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Let others run until `condition()` is true. Raises TimeoutError after `within_s`."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  the condition is anything at all, so nothing could set an event
            await asyncio.sleep(0.001)


async def becomes(read: Callable[[], Awaitable[T]], accept: Callable[[T], object], *, within_s: float = 10.0) -> T:
    """Ask again until `accept` likes what `read` brings, and return it. Raises TimeoutError after `within_s`."""
    async with asyncio.timeout(within_s):
        while not accept(value := await read()):  # noqa: ASYNC110  what is asked is another process
            await asyncio.sleep(0.02)
        return value
