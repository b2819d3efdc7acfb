"""Which requests belong together: a key made from what a request says, for limits and sticky choices."""

import hashlib
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from socket import AF_INET6, inet_pton
from typing import Any

from agent.wire.head import RequestHead

KeyOf = Callable[[RequestHead], Hashable]
"""Equal for requests that belong together. Of bounded size, and of a different shape for each kind of value, so that
nobody can choose a value that collides with another kind (a header that reads like someone's address)."""

MAX_LENGTH = 64
"""Longer values are replaced by their digest: memory per key stays bounded whatever a client sends."""

OF_CALLERS = frozenset({"subject", "tenant", "issuer", "claim"})
"""Kinds of parts that nothing is known of before the caller is authenticated."""

_PART = re.compile(r"subject|ip|route|tenant|issuer|host|method|global|header:[A-Za-z0-9!#$%&'*+.^_`|~-]+|claim:.+")
_MAPPED = bytes(10) + b"\xff\xff"


def check_part(part: str) -> None:
    """Raise ValueError with what is allowed, where `part` is no part of a key."""
    if not _PART.fullmatch(part):
        raise ValueError(
            f"{part!r} is no key: use subject, ip, route, tenant, issuer, host, method, global, "
            "header:NAME or claim:PATH"
        )


def key_of(parts: Sequence[str], *, ipv6_prefix: int = 64) -> KeyOf:
    """The function that makes the key of `parts` from a request.

    A part that the request doesn't have (no token, no such header or claim) is replaced by the client's address.
    Raises ValueError for an unknown part.
    """
    makers = [_part(part, ipv6_prefix) for part in parts]
    if len(makers) == 1:
        return makers[0]
    return lambda head: tuple([make(head) for make in makers])


def network_of(address: str, ipv6_prefix: int) -> Hashable:
    """An IPv4 address as it is; of IPv6 the leading bits. IPv4-mapped addresses are the IPv4 address.

    What is no address (``"unix"``) stays as it is.
    """
    if ":" not in address:
        return address
    try:
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except OSError:
        return _bounded(address)
    if packed[:12] == _MAPPED:
        return ".".join(map(str, packed[12:]))
    return int.from_bytes(packed, "big") >> (128 - ipv6_prefix)


def _bounded(value: str | bytes) -> Hashable:
    if len(value) <= MAX_LENGTH:
        return value
    data = value.encode(errors="surrogatepass") if isinstance(value, str) else value
    return "digest", hashlib.blake2b(data, digest_size=16).digest()


def _part(part: str, ipv6_prefix: int) -> KeyOf:
    check_part(part)

    def address(head: RequestHead) -> Hashable:
        return network_of(head.client_ip, ipv6_prefix)

    def stand_in(head: RequestHead) -> Hashable:
        return "ip", network_of(head.client_ip, ipv6_prefix)

    if part == "ip":
        return address
    if part == "global":
        return lambda head: ""
    if part == "subject":
        return _subject(stand_in)
    kind, _, argument = part.partition(":")
    read = _READERS[kind](argument)

    def value_or_address(head: RequestHead) -> Hashable:
        value = read(head)
        return _bounded(value) if value else stand_in(head)

    return value_or_address


def _subject(stand_in: KeyOf) -> KeyOf:
    """A subject is unique within its issuer only (RFC 7519, section 4.1.2), and an issuer may stand for many realms."""

    def subject(head: RequestHead) -> Hashable:
        identity = head.identity
        if identity is None:
            return stand_in(head)
        name = identity.subject
        if not name or len(name) > MAX_LENGTH:
            return (_bounded(name), identity.issuer, identity.tenant) if name else stand_in(head)
        return name, identity.issuer, identity.tenant

    return subject


_Reader = Callable[[RequestHead], str | bytes]


def _identity_field(field: str) -> Callable[[str], _Reader]:
    return lambda _: lambda head: str(getattr(head.identity, field)) if head.identity is not None else ""


def _header(name: str) -> _Reader:
    field = name.lower().encode()
    return lambda head: head.fields.get(field, b"")


def _claim(path: str) -> _Reader:
    names = path.split(".")

    def read(head: RequestHead) -> str:
        value: Any = head.identity.claims if head.identity is not None else {}
        if path in value:  # names of claims may be URLs, with dots of their own
            return _scalar(value[path])
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return _scalar(value)

    return read


def _scalar(value: Any) -> str:
    """Numbers and truth values as JSON writes them; lists and objects are no key."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ""


_READERS: dict[str, Callable[[str], _Reader]] = {
    "route": lambda _: lambda head: head.route,
    "tenant": _identity_field("tenant"),
    "issuer": _identity_field("issuer"),
    "host": lambda _: lambda head: head.host,
    "method": lambda _: lambda head: head.method,
    "header": _header,
    "claim": _claim,
}
