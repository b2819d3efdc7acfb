"""What a running sidecar is to the process around it, whether its data path is one process or many."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from agent.assembly.telemetry import Telemetry
from agent.config.root import Config
from agent.ports.operator import Component, Question
from agent.runtime.process import Drainable
from agent.telemetry.snapshot import Snapshot


class Body(Drainable, Protocol):
    """A data path with its operators' side."""

    telemetry: Telemetry

    @property
    def exit_code(self) -> int:
        """The worst that a process of it has ended with."""
        ...

    async def start(self, busy: asyncio.Lock) -> bool:
        """Serve. False where that failed and the process has to end; raises where a sentence says why.

        `busy` is held while threads run that a fork must not copy.
        """
        ...

    async def use(self, config: Config) -> Sequence[str]:
        """Swap to a configuration. Returns sentences about who did not follow; raises and changes nothing."""
        ...

    async def set_level(self, level: str) -> None:
        """Change the log level everywhere. Raises ValueError naming the levels there are."""
        ...

    def components(self) -> Sequence[Component]:
        """Every part that can fail on its own."""
        ...

    async def snapshot(self) -> Snapshot:
        """All metrics."""
        ...

    async def explain(self, question: Question) -> Mapping[str, Any]:
        """What would happen to a request. Raises ValueError for a senseless question."""
        ...

    async def close(self) -> None:
        """Stop all background work and write what is left to be logged."""
        ...
