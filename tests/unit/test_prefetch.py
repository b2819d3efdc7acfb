"""What policies in shadow mode have fetched: in the background, and never more than a few at a time."""

import asyncio

from agent.assembly.chain import Prefetch


class Keys:
    """A fact that comes when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.there = asyncio.Event()

    async def fetch(self) -> None:
        self.asked += 1
        await self.there.wait()


async def test_a_flood_of_requests_has_few_facts_fetched_at_a_time() -> None:
    keys, prefetch = Keys(), Prefetch()
    for _ in range(1000):
        prefetch(keys)
    await asyncio.sleep(0)
    assert keys.asked == 16
    keys.there.set()
    while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110  each ends by itself
        await asyncio.sleep(0)
    prefetch(keys)
    await asyncio.sleep(0)
    assert keys.asked == 17, "once they are over, others have a turn"
