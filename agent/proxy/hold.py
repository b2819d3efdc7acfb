"""Hold requests while the application restarts, instead of refusing them: bounded in number and in time."""

import asyncio
from collections.abc import Awaitable, Callable

from agent.core.tasks import spawn

_FIRST_LOOK_S = 0.05
_LONGEST_LOOK_S = 0.25


class HoldFullError(ConnectionError):
    """The application wasn't back in time, or too many requests wait for it already."""

    def __init__(self, why: str, *, is_full: bool) -> None:
        super().__init__(why)
        self.is_full = is_full


class Hold:
    """All requests that wait for one target; a single prober looks for it on behalf of all."""

    __slots__ = ("_back", "_max_requests", "_max_wait_s", "held")

    def __init__(self, max_requests: int, max_wait_s: float) -> None:
        self._max_requests = max_requests
        self._max_wait_s = max_wait_s
        self._back: asyncio.Future[None] | None = None
        self.held = 0
        """Requests that wait now."""

    async def until_back(self, is_reachable: Callable[[], Awaitable[bool]], waited_s: float = 0.0) -> None:
        """Return when the target takes connections again. Raises HoldFullError.

        `waited_s` is how long the same request has waited before: one that restarts again and again is no excuse.
        """
        if self.held >= self._max_requests:
            raise HoldFullError(f"{self.held} requests already wait for the application", is_full=True)
        if self._back is None:
            self._back = asyncio.get_running_loop().create_future()
            spawn(self._look(self._back, is_reachable), name="look for the application")
        self.held += 1
        try:
            async with asyncio.timeout(self._max_wait_s - waited_s):
                await asyncio.shield(self._back)
        except TimeoutError:
            why = f"the application was not back within {self._max_wait_s:g} s"
            raise HoldFullError(why, is_full=False) from None
        finally:
            self.held -= 1

    async def _look(self, back: "asyncio.Future[None]", is_reachable: Callable[[], Awaitable[bool]]) -> None:
        pause_s = _FIRST_LOOK_S
        while True:
            await asyncio.sleep(pause_s)
            if not self.held or await is_reachable():
                break
            pause_s = min(pause_s * 2, _LONGEST_LOOK_S)
        self._back = None
        if not back.done():
            back.set_result(None)
