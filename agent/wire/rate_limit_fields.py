"""Response fields that tell a client its limits: draft-ietf-httpapi-ratelimit-headers-10 and `X-RateLimit-*`."""

from typing import Literal

Style = Literal["draft", "legacy", "both", "none"]
_CACHED_LINES = 512


class RateLimitFields:
    """The header lines of one limit. Their pieces are kept: formatting costs five times as much as looking up."""

    __slots__ = ("_head", "_tail", "heads", "tails")

    def __init__(self, name: str, capacity: int, style: Style, policies: bytes) -> None:
        """`policies` is the value of `RateLimit-Policy`: all limits that hold for the request."""
        draft, legacy = style in ("draft", "both"), style in ("legacy", "both")
        self._head = (b"x-ratelimit-limit: %d\r\nx-ratelimit-remaining: %%d\r\n" % capacity if legacy else b"") + (
            b'ratelimit-policy: %s\r\nratelimit: "%s";r=%%d;t=' % (policies, name.encode()) if draft else b""
        )
        self._tail = (b"%d\r\n" if draft else b"") + (b"x-ratelimit-reset: %d\r\n" if legacy else b"")
        self.heads: dict[int, bytes] = {}
        self.tails: dict[int, bytes] = {}

    def render(self, remaining: int, after_s: float) -> bytes:
        """The lines for these numbers; seconds are rounded up."""
        seconds = int(after_s + 0.999999)
        head = self.heads.get(remaining)
        tail = self.tails.get(seconds)
        if head is None:
            head = _fill(self.heads, self._head, remaining)
        if tail is None:
            tail = _fill(self.tails, self._tail, seconds)
        return head + tail


def _fill(known: dict[int, bytes], template: bytes, number: int) -> bytes:
    lines = template % ((number,) * template.count(b"%d"))
    if len(known) < _CACHED_LINES:
        known[number] = lines
    return lines


def policy_item(name: str, limit: int, per_s: float, capacity: int) -> bytes:
    """One member of `RateLimit-Policy`: `w` only takes whole seconds."""
    item = f'"{name}";q={limit}'
    if per_s.is_integer():
        item += f";w={per_s:.0f}"
    if capacity != limit:
        item += f";outrigger-burst={capacity}"
    return item.encode()


def without(lines: bytes, others: bytes) -> bytes:
    """`lines` without the fields that `others` has, too: of two answers to the same question the client gets one."""
    names = {line.partition(b":")[0] for line in others.split(b"\r\n")}
    return b"".join([line for line in lines.splitlines(keepends=True) if line.partition(b":")[0] not in names])
