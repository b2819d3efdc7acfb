"""Who the client is behind trusted proxies, and what the next hop is told about it (X-Forwarded-*, RFC 7239).

- From a peer that isn't trusted nothing is believed: the client is the peer, and its forwarding fields are replaced.
- From a trusted peer the chain is read from the right: the first address that isn't trusted is the client. What stands
  to the left of it was said by a stranger and is cut off, so that applications that read the leftmost address aren't
  fooled either. An entry that is no address ends the walk: the client is then the last address that was.
- One header counts, `X-Forwarded-For` unless `Forwarded` is chosen: a proxy that writes one passes on the other.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator

from agent.core.network import NetworkSet, parse_ip, parse_network
from agent.wire.head import RequestHead
from agent.wire.path import BadTargetError, split_authority

MAX_HOPS = 32
CACHE_ENTRIES = 4096
"""Cleared when full: addresses and Host values are chosen by strangers."""
CACHED_BYTES = 256
UNIX = "unix"

_K = TypeVar("_K")
_V = TypeVar("_V")

_PARAMETER = rb"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)|\"([^\"\\]*)\")\s*"
_pairs = re.compile(_PARAMETER).findall
_is_element = re.compile(rb"%b(?:;%b)*" % (_PARAMETER, _PARAMETER)).fullmatch
_is_prefix = re.compile(rb"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+").fullmatch
_SCHEMES = {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}
_PORTS = {b"http": b"80", b"https": b"443"}

Header = Literal["x-forwarded-for", "forwarded"]


def _trusted_peer(text: str) -> str:
    if text != UNIX:
        parse_network(text)
    return text


TrustedPeer = Annotated[str, AfterValidator(_trusted_peer)]
"""A settings field: a network in CIDR notation, one address, or ``unix`` for whoever may open our Unix socket."""


class Hops(NamedTuple):
    """What a trusted peer said about the way that the request has come."""

    client: str
    chain: tuple[str, ...]
    """Addresses from the client to the last one before the peer."""
    scheme: bytes = b""
    host: bytes = b""
    """As in `Forwarded`; both ``b""`` where not said there."""


class _Peer(NamedTuple):
    address: str
    is_trusted: bool


class Trust:
    """The trusted proxies, compiled once per configuration, with bounded memories of what was asked lately."""

    __slots__ = ("_has_unix", "_header", "_hops", "_lines", "_networks", "_peers")

    def __init__(self, trusted: Iterable[str] = (), *, header: Header = "x-forwarded-for") -> None:
        """`trusted` as `TrustedPeer`. Raises ValueError with a sentence that says what would be right."""
        peers = list(trusted)
        self._has_unix = UNIX in peers
        self._networks = NetworkSet(peer for peer in peers if peer != UNIX)
        self._header = header.encode()
        self._peers: dict[str, _Peer] = {}
        self._hops: dict[tuple[str, bytes], Hops] = {}
        self._lines: dict[tuple[str | bytes, ...], bytes] = {}

    def trusts(self, address: str) -> bool:
        """Whether `address` belongs to a trusted proxy; False for what is no address."""
        return (self._peers.get(address) or self._learn(address)).is_trusted

    def complete(self, head: RequestHead) -> None:
        """Set `client_ip`, and `scheme` where a trusted proxy says it. Needs `peer`, `fields` and our own `scheme`."""
        peer = self._peers.get(head.peer) or self._learn(head.peer)
        head.client_ip = peer.address
        if peer.is_trusted:
            hops = self.hops(peer.address, head.fields)
            head.client_ip = hops.client
            head.scheme = hops.scheme or self._said_scheme(head.fields) or head.scheme

    def lines(self, head: RequestHead) -> bytes:
        """The forwarding fields for the next hop, each line ending in CRLF. After `complete`."""
        fields = head.fields
        key: tuple[str | bytes, ...] = (head.peer, fields.get(b"host", b""), head.scheme)
        # 0.2 µs: for a peer that isn't trusted nothing else goes into the lines
        lines = self._lines.get(key)
        if lines is not None:
            return lines
        peer = self._peers.get(head.peer) or self._learn(head.peer)
        if not peer.is_trusted:
            return self._remember(key, _render((peer.address,), head.scheme, fields.get(b"host", b""), b""))
        said = fields.get
        key += (said(self._header, b""), said(b"x-forwarded-host", b""), said(b"x-forwarded-port", b""))
        key += (said(b"x-forwarded-prefix", b""),)
        return self._lines.get(key) or self._remember(key, self._trusted_lines(peer.address, head))

    def _remember(self, key: tuple[str | bytes, ...], lines: bytes) -> bytes:
        if sum(map(len, key)) <= CACHED_BYTES:
            _bounded(self._lines)[key] = lines
        return lines

    def hops(self, peer: str, fields: Mapping[bytes, bytes]) -> Hops:
        """What the chosen header says, coming from the trusted `peer`."""
        value = fields.get(self._header, b"")
        key = (peer, value)
        hops = self._hops.get(key)
        if hops is None:
            hops = self._walk(peer, value)
            if len(value) <= CACHED_BYTES:
                _bounded(self._hops)[key] = hops
        return hops

    def _walk(self, peer: str, value: bytes) -> Hops:
        client, chain = peer, []
        scheme = host = b""
        reads_forwarded = self._header == b"forwarded"
        entries = value.rsplit(b",", MAX_HOPS)[-MAX_HOPS:] if value else []
        for entry in reversed(entries):
            said = _element(entry) if reads_forwarded else {b"for": entry.strip()}
            address = _address(said.get(b"for", b""))
            if not address:
                break
            client = address
            chain.append(address)
            scheme = _SCHEMES.get(said.get(b"proto", b"").lower(), b"")
            host = _authority(said.get(b"host", b""))
            if not self.trusts(address):
                break
        return Hops(client, tuple(reversed(chain)), scheme, host)

    def _said_scheme(self, fields: Mapping[bytes, bytes]) -> bytes:
        """The nearest proxy's word counts: the rightmost."""
        if self._header == b"forwarded":
            return b""
        return _SCHEMES.get(_last(fields.get(b"x-forwarded-proto", b"")).lower(), b"")

    def _trusted_lines(self, peer: str, head: RequestHead) -> bytes:
        fields = head.fields
        hops = self.hops(peer, fields)
        host, port = hops.host, b""
        if self._header != b"forwarded":
            host = _authority(_last(fields.get(b"x-forwarded-host", b"")))
            port = _port(_last(fields.get(b"x-forwarded-port", b"")))
        chain = hops.chain if peer == UNIX else (*hops.chain, peer)
        lines = _render(chain or (UNIX,), head.scheme, host or fields.get(b"host", b""), port)
        prefix = _last(fields.get(b"x-forwarded-prefix", b""))
        return lines + b"x-forwarded-prefix: %b\r\n" % prefix if _is_prefix(prefix) else lines

    def _learn(self, address: str) -> _Peer:
        peer = _Peer(address, address == UNIX and self._has_unix)
        try:
            parsed = parse_ip(address)
            peer = _Peer(str(parsed), parsed in self._networks)
        except ValueError:
            pass  # a Unix socket's other end, or nothing that could be trusted
        if len(address) <= CACHED_BYTES:
            _bounded(self._peers)[address] = peer
        return peer


def _bounded(cache: "dict[_K, _V]") -> "dict[_K, _V]":
    if len(cache) >= CACHE_ENTRIES:
        cache.clear()
    return cache


def _last(value: bytes) -> bytes:
    return value.rpartition(b",")[2].strip()


def _element(entry: bytes) -> dict[bytes, bytes]:
    """One element of `Forwarded` (RFC 7239, section 4); empty where it is malformed or names a parameter twice."""
    if not _is_element(entry):
        return {}
    pairs = _pairs(entry)
    said = {name.lower(): token or quoted for name, token, quoted in pairs}
    return said if len(said) == len(pairs) else {}


def _address(node: bytes) -> str:
    """An address without its port; ``""`` for ``unknown``, obfuscated identifiers and whatever else is no address."""
    if len(node) > 64:
        return ""
    text = node.decode("latin-1")
    if text[:1] == "[":
        text, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in text or (port and port[0] != ":"):
            return ""
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(parse_ip(text))
    except ValueError:
        return ""


def _authority(value: bytes) -> bytes:
    try:
        split_authority(value)
    except BadTargetError:
        return b""
    return value


def _port(value: bytes) -> bytes:
    return value if value.isdigit() and len(value) <= 5 and 0 < int(value) <= 65535 else b""


def _render(chain: tuple[str, ...], scheme: bytes, authority: bytes, port: bytes) -> bytes:
    lines = []
    if chain != (UNIX,):
        lines.append(b"x-forwarded-for: " + ", ".join(chain).encode())
    lines.append(b"x-forwarded-proto: " + scheme)
    first = b"for=" + _node(chain[0])
    if authority:
        explicit = split_authority(authority)[1]
        lines.append(b"x-forwarded-host: " + authority)
        lines.append(b"x-forwarded-port: " + (port or (b"%d" % explicit if explicit > 0 else _PORTS[scheme])))
        first += b';host="%b"' % authority
    elements = [first + b";proto=" + scheme, *(b"for=" + _node(hop) for hop in chain[1:])]
    lines.append(b"forwarded: " + b", ".join(elements))
    return b"\r\n".join(lines) + b"\r\n"


def _node(address: str) -> bytes:
    if address == UNIX:
        return b"unknown"
    return b'"[%b]"' % address.encode() if ":" in address else address.encode()
