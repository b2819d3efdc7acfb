"""The policy port: judge one request without doing any I/O.

A policy is asked in the order of its route's chain. It decides from the head, its own state and `now` (monotonic
seconds): no await, no clock, no I/O. Whoever needs something from outside answers `Need`: that one request is parked
until the fact is there, and the same policy is asked again.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from agent.wire.head import RequestHead
from agent.wire.problem import Refusal


class Fact(Protocol):
    """Something that only I/O or time can bring: a key set, an introspection, a free slot."""

    async def fetch(self) -> None:
        """Return when it is worth asking the policy again; never raise for a failure that the policy judges itself.

        Cancelled when the client is gone or the request's deadline has passed.
        """


class Deny:
    """The request ends here with a prebuilt answer.

    `extra` holds header lines of this one answer (`Retry-After`, `WWW-Authenticate`), each ending in CRLF.
    `why` is for people: the access log and `explain` show it, the client never sees it.
    """

    __slots__ = ("extra", "refusal", "why")

    def __init__(self, refusal: Refusal, *, extra: bytes = b"", why: str = "") -> None:
        self.refusal = refusal
        self.extra = extra
        self.why = why


class Need:
    """The verdict waits for a fact."""

    __slots__ = ("fact",)

    def __init__(self, fact: Fact) -> None:
        self.fact = fact


Verdict = Deny | Need | None
"""None allows the request: the common answer allocates nothing."""


class Outcome(Protocol):
    """How a request ended, for policies that learn."""

    status: int
    """What the client got; 0 where it was gone before a status was sent."""
    origin: str
    """Who made the answer: ``agent``, ``app`` or ``upstream``."""
    code: str
    """The refusal's or failure's stable code; ``""`` where the application answered."""
    cancelled: bool
    """The client went away first, or left no time for an answer: says nothing about the application."""
    upstream_s: float
    """Seconds from sending the request upstream to its response head; -1.0 where none came."""


class Policy(ABC):
    """One decision about each request of a route.

    - `on_request` is called once per request, and once more after each `Need` that it answered.
    - A policy that sets `observes` gets exactly one `on_response` for each request that it allowed, however it ended:
      answered, refused by a later policy, failed or abandoned by the client.
    - `explain` changes no state.
    """

    __slots__ = ()

    name: ClassVar[str]
    """Noun in snake case, as in metrics and explanations: ``jwt``, ``rate_limit``."""
    observes: ClassVar[bool] = False
    response_drop: ClassVar[frozenset[bytes]] = frozenset()
    """Lower-case names of the fields that the policy owns: they are taken out of the application's response."""
    forward_token: bool = True
    """Whether `Authorization` may reach the application."""

    @abstractmethod
    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """Judge the request. May add to `head.request_extra` and `head.response_extra`, and set `head.identity`."""

    def on_response(self, head: RequestHead, outcome: Outcome, now: float) -> None:
        """Learn how an allowed request ended. Only called where `observes` is true."""
        raise NotImplementedError

    def adopt(self, old: "Policy") -> bool:
        """Go on with the state of a policy of the same name from before a reload; false where it doesn't fit."""
        return False

    @abstractmethod
    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """What `on_request` would say, without consequences.

        Returns ``allow``, ``deny`` or ``need``, and a sentence that says why.
        """
