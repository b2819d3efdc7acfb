"""Waiting for something that another process does."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T | None]], *, wait_s: float = 5.0, pause_s: float = 0.02) -> T:
    """Look again and again until what is seen counts as true, and return it. Raises TimeoutError."""
    async with asyncio.timeout(wait_s):
        for _ in count():
            if seen := await look():
                return seen
            await asyncio.sleep(pause_s)
    raise AssertionError
