"""Wait for a condition, and no longer: for what other tasks and threads bring about."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Let others run until `condition()` is true. Raises TimeoutError after `within_s`."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  the condition is anything at all, so nothing could set an event
            await asyncio.sleep(0.001)
