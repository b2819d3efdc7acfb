"""In-flight limit with a bounded queue: what can't be served at once waits its turn, briefly, or is refused.

| event | slots free | all taken, room in the queue | all taken, queue full |
|---|---|---|---|
| request | admitted | waits (`Need`) | 503 `overloaded` |
| a request ended | - | its slot goes to the next in line | the same |
| waited `queue_timeout_s` | - | 503 `overloaded` | - |
| client gone while waiting | - | its place is free; a slot that it was just given goes on to the next | - |

Invariants: no more than `limit` are in flight; nobody overtakes the queue; a slot is given back exactly once.
"""

import asyncio
from collections import OrderedDict
from typing import ClassVar, Literal

from pydantic import Field

from agent.core.limits.local_limit import share_of
from agent.core.settings import Settings as SettingsModel
from agent.ports.policy import Deny, Need, Outcome, Policy, Verdict
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from agent.wire.problem import Refusal

CLAIM_S = 1.0
"""A turn that came but isn't claimed by asking again goes on to the next: its request is gone."""


class Settings(SettingsModel):
    """How many requests may be in flight, and how long others may wait."""

    max_in_flight: int = Field(default=256, gt=0)
    """Requests that the application works on at the same time, over all workers."""
    max_queue: int = Field(default=128, ge=0)
    """Requests that may wait for a slot, in each worker. 0 refuses at once."""
    queue_timeout_s: float = Field(default=1.0, gt=0, le=300)
    """Seconds that a request may wait."""
    lifo: bool = False
    """Serve the newest first. Under lasting overload more clients are then served before they give up, at the price of
    those who have waited longest."""
    retry_after_s: int = Field(default=1, ge=1)
    """Seconds after which a refused client should come again (`Retry-After`)."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow` records what it would have refused or made to wait, but does neither."""


class Turn:
    """The fact that a queued request waits for: a slot, or the end of its patience."""

    __slots__ = ("claim", "gate", "granted", "head", "shed", "wake")

    def __init__(self, gate: "Gate", head: RequestHead) -> None:
        self.gate = gate
        self.head = head
        self.granted = False
        self.shed = ""
        """Why there is no slot, in the end: ``queue_full`` or ``queue_timeout``."""
        self.wake: asyncio.Future[None] | None = None
        self.claim: asyncio.TimerHandle | None = None

    async def fetch(self) -> None:
        """Return when this request has a slot, or has waited long enough; then it has to ask again."""
        gate = self.gate
        if gate.join(self):
            assert self.wake is not None
            try:
                async with asyncio.timeout(gate.queue_timeout_s):
                    await self.wake
            except TimeoutError:
                gate.queue.pop(self, None)
            except asyncio.CancelledError:
                gate.leave(self)
                raise
        if not self.granted:
            self.shed = self.shed or "queue_timeout"
        gate.keep(self)


class Gate:
    """Slots and the line before them. Shared by policies before and after a reload."""

    __slots__ = ("in_flight", "lifo", "limit", "max_queue", "queue", "queue_timeout_s", "turns")

    def __init__(self) -> None:
        self.in_flight = 0
        self.limit = 0
        """May be changed at any time; a lower one takes effect as requests end."""
        self.max_queue = 0
        self.queue_timeout_s = 0.0
        self.lifo = False
        self.queue: OrderedDict[Turn, None] = OrderedDict()
        self.turns: dict[RequestHead, Turn] = {}
        """Turns that are over, until their request asks again."""

    def release(self) -> None:
        """Give a slot back."""
        self.in_flight -= 1
        if self.queue:
            self.advance()

    def advance(self) -> None:
        """Hand free slots to those in line. A slot is counted before its new owner wakes, so nobody gets between."""
        while self.queue and self.in_flight < self.limit:
            turn, _ = self.queue.popitem(last=self.lifo)
            if turn.wake is None or turn.wake.done():
                continue  # cancelled, but its task hasn't run yet
            self.in_flight += 1
            turn.granted = True
            turn.wake.set_result(None)

    def join(self, turn: Turn) -> bool:
        """Stand in line. False where there is nothing to wait for: a slot was free, or the queue is full by now."""
        self.advance()
        if self.in_flight < self.limit:
            self.in_flight += 1
            turn.granted = True
            return False
        if len(self.queue) >= self.max_queue:
            turn.shed = "queue_full"
            return False
        turn.wake = asyncio.get_running_loop().create_future()
        self.queue[turn] = None
        return True

    def leave(self, turn: Turn) -> None:
        """The request is gone: give up its place, or the slot that it had just been given."""
        self.queue.pop(turn, None)
        if turn.granted:
            turn.granted = False
            self.release()

    def keep(self, turn: Turn) -> None:
        """Hold a turn for the request's next question, but not for ever."""
        self.turns[turn.head] = turn
        turn.claim = asyncio.get_running_loop().call_later(CLAIM_S, self._unclaimed, turn)

    def _unclaimed(self, turn: Turn) -> None:
        self.turns.pop(turn.head, None)
        self.leave(turn)

    def claim(self, head: RequestHead) -> Turn | None:
        """The turn that this request waited for, once."""
        turn = self.turns.pop(head, None)
        if turn is not None and turn.claim is not None:
            turn.claim.cancel()
        return turn


class Concurrency(Policy):
    """Bounds the requests in flight. One instance may serve several routes: the application's own limit."""

    __slots__ = ("_denials", "_shed", "gate", "settings")

    name: ClassVar[str] = "concurrency"
    observes: ClassVar[bool] = True

    def __init__(self, settings: Settings, *, route: str, registry: Registry, share: float = 1.0) -> None:
        """`share` is 1/workers: this process's part of `max_in_flight`.

        Raises ValueError where that is less than one.
        """
        self.settings = settings
        self.gate = Gate()
        self.gate.limit = share_of(settings.max_in_flight, share)
        self._configure()
        labels = ("route",)
        shed = registry.counter(
            "outrigger_concurrency_shed_total", "Requests refused for lack of a slot.", ("route", "reason")
        )
        whys = {"queue_full": "all slots and the queue are full", "queue_timeout": "no slot within queue_timeout_s"}
        self._shed = {reason: shed.at(route, reason) for reason in whys}
        refusal = Refusal("overloaded", lines=b"retry-after: %d\r\n" % settings.retry_after_s)
        self._denials = {reason: Deny(refusal, why=why) for reason, why in whys.items()}
        registry.gauge("outrigger_concurrency_in_flight", "Requests in flight.", labels).watch(self._in_flight, route)
        registry.gauge("outrigger_concurrency_limit", "Requests that may be in flight.", labels).watch(
            self._limit, route
        )
        registry.gauge("outrigger_concurrency_queued", "Requests that wait for a slot.", labels).watch(
            self._queued, route
        )

    def _configure(self) -> None:
        self.gate.max_queue = self.settings.max_queue
        self.gate.queue_timeout_s = self.settings.queue_timeout_s
        self.gate.lifo = self.settings.lifo

    def _in_flight(self) -> float:
        return self.gate.in_flight

    def _limit(self) -> float:
        return self.gate.limit

    def _queued(self) -> float:
        return len(self.gate.queue)

    def adopt(self, old: Policy) -> bool:
        """Go on with the slots and the line of `old`, under the new numbers: what is in flight is in flight."""
        if not isinstance(old, Concurrency):
            return False
        limit, self.gate = self.gate.limit, old.gate
        self.gate.limit = limit
        self._configure()
        self.gate.advance()
        return True

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """Admit, queue or refuse. A request that comes back from the queue is never queued again."""
        gate = self.gate
        if gate.turns and (turn := gate.claim(head)) is not None:
            return None if turn.granted else self._deny(turn.shed)
        if gate.queue:
            gate.advance()
        if gate.in_flight < gate.limit:
            gate.in_flight += 1
            return None
        if len(gate.queue) < gate.max_queue:
            return Need(Turn(gate, head))
        return self._deny("queue_full")

    def _deny(self, reason: str) -> Deny:
        self._shed[reason][0] += 1
        return self._denials[reason]

    def on_response(self, head: RequestHead, outcome: Outcome, now: float) -> None:
        """Give the request's slot to the next in line, however the request ended."""
        self.gate.release()

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """Where a request would stand that came now."""
        gate = self.gate
        counts = f"{gate.in_flight} of {gate.limit} in flight, {len(gate.queue)} of {gate.max_queue} queued"
        if gate.in_flight < gate.limit:
            return "allow", counts
        if len(gate.queue) < gate.max_queue:
            return "need", f"{counts}: would wait for a slot, at most {gate.queue_timeout_s:g} s"
        return "deny", f"{counts}: no room to wait"
