"""What listens: the inbound surface leads clients to routes, the outbound one leads the application to upstreams."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from agent.proxy.context import Context
from agent.proxy.plan import Plan
from agent.traffic.routes import RouteTable
from agent.wire.fields import HOP_BY_HOP, REWRITTEN_IN_REQUESTS, FieldRules
from agent.wire.forwarded import Trust
from agent.wire.h1_request import HeadLimits, RequestParser
from agent.wire.head import RequestHead
from agent.wire.path import AmbiguousPathError

_INVOKE = b"/v1/invoke/"
_LOOPBACK = frozenset({b"localhost", b"127.0.0.1", b"[::1]", b""})


class Surface(ABC):
    """One listener's way to turn a head into a plan. A reload replaces what it consults, never the surface itself."""

    direction: str

    def __init__(self, context: Context, *, scheme: bytes = b"http") -> None:
        self.context = context
        self.scheme = scheme
        self.draining = False
        """No more requests on its connections than those that are on their way."""
        self._on_empty: Callable[[], None] | None = None
        self.open = 0
        """Connections of its clients: each surface has `limits.connections` of its own."""
        self.trust = Trust()
        """Whose word on other addresses counts. A reload brings another object: what was learned of peers is void."""
        limits = context.limits
        self._head_limits = HeadLimits(limits.head_bytes, limits.head_fields)
        self.rules = FieldRules(HOP_BY_HOP | REWRITTEN_IN_REQUESTS)

    def client_gone(self) -> None:
        """One of its connections is closed."""
        self.open -= 1
        self.check_empty()

    def when_empty(self, callback: Callable[[], None]) -> None:
        """Call back once, when no connection is left."""
        self._on_empty = callback
        self.check_empty()

    def check_empty(self) -> None:
        """Call back if that moment has come."""
        if self._on_empty is not None and self.open == 0:
            callback, self._on_empty = self._on_empty, None
            callback()

    @abstractmethod
    def parser(self) -> RequestParser:
        """A parser for one new connection."""

    @abstractmethod
    def route(self, head: RequestHead) -> Plan:
        """The plan for this head; there always is one. May rewrite `head.path`."""

    @abstractmethod
    def complete(self, head: RequestHead) -> None:
        """Fill in what the connection and trusted proxies say: scheme and client address."""

    @abstractmethod
    def forwarded(self, head: RequestHead) -> bytes:
        """Forwarding header lines for the next hop."""

    def trailers(self, lines: list[bytes]) -> list[bytes]:
        """Of trailer fields those that would be forwarded as header fields: some servers merge the two."""
        return [line for line in lines if self.rules.read(line)[2][1]]


class InboundSurface(Surface):
    """Clients come in here. Not ready before the first `use`."""

    direction = "inbound"

    _match: Callable[[RequestHead], Plan | None]
    _default: Plan
    _ambiguous: Plan

    def use(
        self,
        table: RouteTable[Plan],
        default: Plan,
        ambiguous: Plan,
        trust: Trust,
        owned: frozenset[bytes] = frozenset(),
    ) -> None:
        """Take a new configuration: requests that have begun go on under the old one.

        `ambiguous` refuses what could be led to two routes. `owned` are the (lower-case) headers in which tokens'
        claims are told to the application: what clients send under these names is dropped, on every route.
        """
        self.rules.own(owned)
        self._match = table.match
        self._default = default
        self._ambiguous = ambiguous
        self.trust = trust

    def parser(self) -> RequestParser:
        """See `Surface.parser`."""
        return RequestParser(self._head_limits, rules=self.rules)

    def route(self, head: RequestHead) -> Plan:
        """See `Surface.route`."""
        try:
            return self._match(head) or self._default
        except AmbiguousPathError:
            return self._ambiguous

    def complete(self, head: RequestHead) -> None:
        """See `Surface.complete`."""
        head.scheme = self.scheme
        self.trust.complete(head)

    def forwarded(self, head: RequestHead) -> bytes:
        """See `Surface.forwarded`."""
        return self.trust.lines(head)


class OutboundSurface(Surface):
    """The application's own calls go out here: by `/v1/invoke/{upstream}/…`, by an absolute target, or by Host.

    Not ready before the first `use`.
    """

    direction = "outbound"

    _upstreams: Mapping[bytes, Plan]
    _hosts: Mapping[bytes, Plan]
    _unknown: Plan

    def use(self, upstreams: Mapping[bytes, Plan], hosts: Mapping[bytes, Plan], unknown: Plan) -> None:
        """Take a new configuration. `unknown` refuses: this is no open proxy."""
        self._upstreams = upstreams
        self._hosts = hosts
        self._unknown = unknown

    def parser(self) -> RequestParser:
        """See `Surface.parser`. Paths belong to the callee here: no rule is matched on them, so they stay verbatim."""
        return RequestParser(self._head_limits, verbatim_paths=True, rules=self.rules)

    def route(self, head: RequestHead) -> Plan:
        """See `Surface.route`."""
        if head.path.startswith(_INVOKE) and head.host in _LOOPBACK:  # a foreign Host is a browser that was rebound
            name, _, rest = head.path[len(_INVOKE) :].partition(b"/")
            head.path = b"/" + rest
            return self._upstreams.get(name, self._unknown)
        return self._hosts.get(head.host, self._unknown)

    def complete(self, head: RequestHead) -> None:
        """See `Surface.complete`."""
        head.scheme, head.client_ip = b"http", head.peer

    def forwarded(self, head: RequestHead) -> bytes:
        """Our own application calls: it needs no introduction."""
        return b""
