"""Allow and deny by the client's address: deny wins, a list of allowed networks denies everything else."""

from typing import ClassVar, Literal

from agent.core.network import Cidr, NetworkSet, parse_ip
from agent.core.settings import Settings as SettingsModel
from agent.ports.policy import Deny, Policy, Verdict
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from agent.wire.problem import Refusal

CACHE_SIZE = 4096
"""Addresses whose verdict is remembered: a few hundred KiB at most, and a parsed address costs ten look-ups."""


class Settings(SettingsModel):
    """Which addresses may use a route. The address is the client's behind `trusted_proxies`, not the proxy's."""

    allow: tuple[Cidr, ...] = ()
    """Networks (`10.0.0.0/8`, `2001:db8::/32`) or single addresses. Where there are any, all others are refused."""
    deny: tuple[Cidr, ...] = ()
    """Networks or single addresses that are refused, even where `allow` names them."""
    unix: Literal["allow", "deny"] = "allow"
    """Peers on a Unix socket have no address: file permissions have decided about them already."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow` decides and records, but never refuses."""


class IpAccess(Policy):
    """Refuses addresses with 403 `ip_denied`. What is no address is refused: this fails closed."""

    __slots__ = ("_allow", "_deny", "_refusal", "_verdicts")

    name: ClassVar[str] = "ip_access"

    def __init__(self, settings: Settings, *, route: str, registry: Registry) -> None:
        del route, registry
        self._allow = NetworkSet(settings.allow)
        self._deny = NetworkSet(settings.deny)
        self._refusal = Refusal("ip_denied")
        unix = Deny(self._refusal, why="peers on a Unix socket are refused") if settings.unix == "deny" else None
        self._verdicts: dict[str, Deny | None] = {"unix": unix}

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """Judge `head.client_ip`."""
        del now
        try:
            return self._verdicts[head.client_ip]
        except KeyError:
            return self._remember(head.client_ip)

    def _remember(self, text: str) -> Deny | None:
        if len(self._verdicts) >= CACHE_SIZE:
            self._verdicts = {"unix": self._verdicts["unix"]}
        denied, why = self._judge(text)
        verdict = Deny(self._refusal, why=why) if denied else None
        self._verdicts[text] = verdict
        return verdict

    def _judge(self, text: str) -> tuple[bool, str]:
        try:
            address = parse_ip(text)
        except ValueError:
            return True, f"{text!r} is no IP address"
        if (network := self._deny.find(address)) is not None:
            return True, f"{text} is denied by {network}"
        if not self._allow:
            return False, f"{text} is in none of the denied networks"
        if (network := self._allow.find(address)) is not None:
            return False, f"{text} is allowed by {network}"
        return True, f"{text} is in none of the allowed networks"

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """The network that decides."""
        del now
        if head.client_ip == "unix":
            unix = self._verdicts["unix"]
            return ("allow", "peers on a Unix socket are allowed") if unix is None else ("deny", unix.why)
        denied, why = self._judge(head.client_ip)
        return ("deny" if denied else "allow"), why
