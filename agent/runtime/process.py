"""What the runtime needs from the parts it starts, drains and reloads; it never sees those parts themselves."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

Log = Callable[..., None]
"""Called as `log(level, sentence, **fields)`; the level is ``debug``, ``info``, ``warning`` or ``error``."""


class Drainable(Protocol):
    """The data path, or all workers' data paths together."""

    @property
    def in_flight(self) -> int:
        """Requests that were accepted and aren't finished."""
        ...

    @property
    def tunnels(self) -> int:
        """Upgraded connections. Waited for like requests, but cutting one at the deadline loses no request."""
        ...

    @property
    def connections(self) -> int:
        """Open connections of clients, the idle ones included."""
        ...

    def begin_drain(self, on_idle: Callable[[], None]) -> None:
        """Accept what the kernel has queued, stop listening, and let everything accepted finish.

        Idle connections are closed, every further answer says `Connection: close`. Calls `on_idle`, perhaps at once,
        when neither requests nor tunnels are left. Called once.
        """
        ...

    async def abort(self) -> int:
        """Close every connection now. Returns how many requests that cut off, tunnels not counted."""
        ...


class Loaded(Protocol):
    """A configuration that was read and found valid."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal effective values, secrets included."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """Every file that it was read from."""
        ...


L = TypeVar("L", bound=Loaded)

Apply = Callable[[L], Sequence[str] | Awaitable[Sequence[str]]]
"""Swap to a new configuration. Returns sentences about changes that need a restart; raises to refuse all of it."""
