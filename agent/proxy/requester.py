"""Who asks an upstream connection something and hears what becomes of it: an exchange, or the copy of one."""

from typing import TYPE_CHECKING, Protocol

from agent.wire.head import RequestHead, ResponseHead

if TYPE_CHECKING:
    from agent.proxy.plan import Plan
    from agent.proxy.upstream import UpstreamConnection


class Requester(Protocol):
    """What pools and upstream connections need of their user. They call; it never calls back in between."""

    head: RequestHead
    plan: "Plan"
    awaiting: int
    """Number of the try that waits for a connection; 0 where none does."""

    @property
    def is_over(self) -> bool:
        """Whether it is no use to wait any longer for a target that restarts."""

    def attach(self, connection: "UpstreamConnection") -> None:
        """Take a connection that was waited for."""

    def connect_failed(self, code: str, why: str) -> None:
        """No connection could be made for the try that awaits one."""

    def interim(self, response: ResponseHead) -> None:
        """A 1xx has come."""

    def respond(self, response: ResponseHead, piece: bytes, done: bool) -> None:
        """The answer's head has come, and `piece` of its body; all of it where `done`."""

    def respond_more(self, piece: bytes, done: bool) -> None:
        """A further piece of the body has come."""

    def switch_protocols(self, connection: "UpstreamConnection", response: ResponseHead, rest: bytes) -> None:
        """101 has come, and `rest` after it."""

    def upstream_failed(self, code: str, why: str) -> None:
        """The connection broke, or its bytes made no sense."""

    def upstream_is_full(self) -> None:
        """The connection takes no more for now."""

    def upstream_has_room(self) -> None:
        """It does again."""
