"""IP addresses and networks as users write them, and a set of networks that answers at once however long it is."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")


def parse_ip(text: str) -> IpAddress:
    """Read an address; an IPv4-mapped one (``::ffff:192.0.2.1``) is its IPv4 address, a zone (``%eth0``) is dropped.

    Raises ValueError where the text is no address. ``010.0.0.1`` is none: some read it as octal.
    """
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv6Address(int(address)) if address.scope_id else address


def parse_network(text: str) -> IpNetwork:
    """Read a network in CIDR notation, or one address as the network that holds only it.

    An IPv4-mapped network is its IPv4 network. Raises ValueError with a sentence that says what would be right.
    """
    try:
        network = ip_network(text, strict=False)
        exact = ip_network(text) if "%" not in text else None
    except ValueError as error:
        if "host bits set" in str(error):
            raise ValueError(f"{text!r} has bits set beyond its prefix: write {network} for the network") from None
        raise ValueError(f"{text!r} is no network: write it like 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32") from None
    if exact is None:
        raise ValueError(f"{text!r} names a zone: networks hold for every interface, so leave out the part from %")
    if isinstance(exact, IPv6Network) and exact.subnet_of(_MAPPED):
        return IPv4Network((int(exact.network_address) & 0xFFFFFFFF, exact.prefixlen - 96))
    return exact


def _checked(text: str) -> str:
    parse_network(text)
    return text


Cidr = Annotated[str, AfterValidator(_checked)]
"""A settings field that holds one network, checked when the configuration is read."""


class NetworkSet:
    """Networks of both families. A lookup costs one hash probe per distinct prefix length, not one per network."""

    __slots__ = ("_by_family", "_size")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises ValueError as `parse_network` does."""
        lengths: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        parsed = {parse_network(text) for text in networks}
        for network in parsed:
            shift = network.max_prefixlen - network.prefixlen
            lengths[network.version].setdefault(shift, set()).add(int(network.network_address) >> shift)
        self._size = len(parsed)
        self._by_family = {
            family: tuple((shift, frozenset(prefixes)) for shift, prefixes in sorted(by_shift.items()))
            for family, by_shift in lengths.items()
        }

    def __len__(self) -> int:
        return self._size

    def __contains__(self, address: IpAddress) -> bool:
        number = int(address)
        return any(number >> shift in prefixes for shift, prefixes in self._by_family[address.version])

    def find(self, address: IpAddress) -> IpNetwork | None:
        """The narrowest network that holds `address`: for explanations."""
        number = int(address)
        for shift, prefixes in self._by_family[address.version]:
            if number >> shift in prefixes:
                kind = IPv4Network if address.version == 4 else IPv6Network
                return kind((number >> shift << shift, address.max_prefixlen - shift))
        return None
