"""Addresses and networks: what is read, what is refused with which remedy, and that the set agrees with the library."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.network import IpAddress, IpNetwork, NetworkSet, parse_ip, parse_network


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_address_is_read(text: str, meant: str) -> None:
    assert parse_ip(text) == ip_address(meant)


@pytest.mark.parametrize("text", ["", "unix", "010.0.0.1", "1.2.3", "1.2.3.4:80", "[::1]", "192.0.2.7 ", "example.org"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        parse_ip(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
    ],
)
def test_network_is_read(text: str, meant: str) -> None:
    assert parse_network(text) == ip_network(meant)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("10.0.0.0/33", "write it like 10.0.0.0/8"),
        ("office", "write it like 10.0.0.0/8"),
        ("", "write it like 10.0.0.0/8"),
        ("fe80::1%eth0", "leave out the part from %"),
    ],
)
def test_bad_network_says_what_would_be_right(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        parse_network(text)


def test_narrowest_network_explains() -> None:
    networks = NetworkSet(["10.0.0.0/8", "10.1.0.0/16", "::/0"])
    assert networks.find(parse_ip("10.1.2.3")) == ip_network("10.1.0.0/16")
    assert networks.find(parse_ip("10.2.2.3")) == ip_network("10.0.0.0/8")
    assert networks.find(parse_ip("11.2.2.3")) is None
    assert networks.find(parse_ip("::5")) == ip_network("::/0")
    assert len(networks) == 3


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(lambda a: a == parse_ip(str(a)))
prefixes = st.tuples(addresses, st.integers(0, 128)).map(
    lambda pair: ip_network(f"{pair[0]}/{min(pair[1], pair[0].max_prefixlen)}", strict=False)
)


@given(st.lists(prefixes, max_size=5), addresses, st.booleans())
def test_set_agrees_with_the_library(networks: list[IpNetwork], elsewhere: IpAddress, at_an_edge: bool) -> None:
    address = networks[0].network_address if networks and at_an_edge else elsewhere
    subject = NetworkSet(str(network) for network in networks)
    holding = [network for network in networks if address in network]
    assert (address in subject) is bool(holding)
    assert subject.find(address) == (max(holding, key=lambda network: network.prefixlen) if holding else None)
