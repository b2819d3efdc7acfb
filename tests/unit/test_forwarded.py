"""Nobody can claim to be someone else: only trusted proxies are believed, and only as far as they go."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import forwarded as module
from agent.wire.forwarded import Header, Trust
from agent.wire.head import RequestHead
from tests.kit.head import request_head

PROXIES = ["10.0.0.0/8", "2001:db8:1::/48"]
STRANGER, PROXY, PROXY_2 = "203.0.113.9", "10.0.0.1", "10.0.0.2"


def completed(trust: Trust, peer: str, fields: dict[bytes, bytes], scheme: bytes = b"http") -> RequestHead:
    head = request_head(fields={b"host": b"api.example", **fields}, peer=peer)
    head.scheme, head.client_ip = scheme, ""
    trust.complete(head)
    return head


def told(trust: Trust, peer: str, fields: dict[bytes, bytes], scheme: bytes = b"http") -> dict[str, str]:
    """The forwarding fields that the next hop gets."""
    lines = trust.lines(completed(trust, peer, fields, scheme))
    assert lines.endswith(b"\r\n")
    pairs = [line.split(": ", 1) for line in lines.decode().split("\r\n")[:-1]]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize(
    ("peer", "value", "client"),
    [
        (STRANGER, "", STRANGER),
        (STRANGER, "1.1.1.1", STRANGER),
        (PROXY, "", PROXY),
        (PROXY, "1.1.1.1", "1.1.1.1"),
        (PROXY, "8.8.8.8, 1.1.1.1", "1.1.1.1"),
        (PROXY, "8.8.8.8, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        (PROXY, "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (PROXY, "1.1.1.1,10.0.0.2 ", "1.1.1.1"),
        (PROXY, "1.1.1.1:5000", "1.1.1.1"),
        (PROXY, "2001:db8::1", "2001:db8::1"),
        (PROXY, "2001:DB8:0::1", "2001:db8::1"),
        (PROXY, "[2001:db8::1]", "2001:db8::1"),
        (PROXY, "[2001:db8::1]:443", "2001:db8::1"),
        (PROXY, "::ffff:1.1.1.1", "1.1.1.1"),
        (PROXY, "1.1.1.1, ::ffff:10.0.0.2", "1.1.1.1"),
        ("::ffff:10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("2001:db8:1::5", "1.1.1.1", "1.1.1.1"),
        ("2001:db8:2::5", "1.1.1.1", "2001:db8:2::5"),
        (PROXY, "unknown", PROXY),
        (PROXY, "1.1.1.1, unknown, 10.0.0.2", "10.0.0.2"),
        (PROXY, "1.1.1.1, _hidden", PROXY),
        (PROXY, "1.1.1.1,", PROXY),
        (PROXY, "1.1.1.1, , 10.0.0.2", "10.0.0.2"),
        (PROXY, "010.1.1.1", PROXY),
        (PROXY, "1.1.1.1 evil", PROXY),
        (PROXY, "[1.1.1.1]", PROXY),
        (PROXY, "[2001:db8::1]x", PROXY),
        (PROXY, "[2001:db8::1", PROXY),
        (PROXY, "\xff", PROXY),
        (PROXY, "1.1.1.1" * 50, PROXY),
        ("unix", "1.1.1.1", "unix"),
    ],
)
def test_client_by_x_forwarded_for(peer: str, value: str, client: str) -> None:
    trust = Trust(PROXIES)
    fields = {b"x-forwarded-for": value.encode("latin-1")} if value else {}
    for _ in range(2):  # the second answer may come from the cache
        assert completed(trust, peer, fields).client_ip == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=1.1.1.1", "1.1.1.1"),
        ("For=8.8.8.8, FOR=1.1.1.1;proto=https", "1.1.1.1"),
        ('for="[2001:db8::1]:4711";proto=http', "2001:db8::1"),
        ('for="1.1.1.1:80"', "1.1.1.1"),
        ("for=1.1.1.1 , for=10.0.0.2;by=10.0.0.1", "1.1.1.1"),
        ("for=1.1.1.1, for=unknown", PROXY),
        ("for=1.1.1.1, for=_x", PROXY),
        ("for=1.1.1.1, proto=https", PROXY),
        ('for="evil, for=1.1.1.1', "1.1.1.1"),
        ('for="8.8.8.8, for=1.1.1.1"', PROXY),
        ("for=1.1.1.1;for=8.8.8.8", PROXY),
        ("for=", PROXY),
        ("", PROXY),
    ],
)
def test_client_by_forwarded(value: str, client: str) -> None:
    trust = Trust(PROXIES, header="forwarded")
    fields = {b"forwarded": value.encode(), b"x-forwarded-for": b"9.9.9.9"}
    assert completed(trust, PROXY, fields).client_ip == client


def test_the_other_header_is_never_believed() -> None:
    """A proxy that writes X-Forwarded-For passes a client's Forwarded on as it came."""
    fields = {b"forwarded": b"for=6.6.6.6;proto=https;host=evil", b"x-forwarded-for": b"1.1.1.1"}
    result = told(Trust(PROXIES), PROXY, fields)
    assert result["forwarded"] == 'for=1.1.1.1;host="api.example";proto=http, for=10.0.0.1'
    assert completed(Trust(PROXIES), PROXY, {b"forwarded": b"for=6.6.6.6"}).client_ip == PROXY


def test_a_stranger_is_told_as_what_it_is() -> None:
    fields = {
        b"x-forwarded-for": b"6.6.6.6",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"evil",
        b"x-forwarded-port": b"1",
        b"x-forwarded-prefix": b"/evil",
        b"forwarded": b"for=6.6.6.6",
    }
    expected = {
        "x-forwarded-for": STRANGER,
        "x-forwarded-proto": "http",
        "x-forwarded-host": "api.example",
        "x-forwarded-port": "80",
        "forwarded": f'for={STRANGER};host="api.example";proto=http',
    }
    trust = Trust(PROXIES)
    assert told(trust, STRANGER, fields) == expected
    assert told(trust, STRANGER, {}) == expected


@pytest.mark.parametrize(
    ("host", "scheme", "port"),
    [("h:8443", b"https", "8443"), ("h", b"https", "443"), ("[::1]:81", b"http", "81"), ("h:", b"http", "80")],
)
def test_port_is_what_the_client_used(host: str, scheme: bytes, port: str) -> None:
    result = told(Trust(), STRANGER, {b"host": host.encode()}, scheme)
    assert (result["x-forwarded-host"], result["x-forwarded-port"]) == (host, port)


def test_http_1_0_without_host() -> None:
    head = request_head(peer=STRANGER)
    Trust().complete(head)
    assert b"host" not in Trust().lines(head)


def test_ipv6_is_quoted_as_rfc_7239_wants_it() -> None:
    result = told(Trust(), "2001:db8::7", {})
    assert result["x-forwarded-for"] == "2001:db8::7"
    assert result["forwarded"].startswith('for="[2001:db8::7]";')


def test_trusted_proxy_is_appended_and_strangers_words_are_cut() -> None:
    fields = {
        b"x-forwarded-for": b"6.6.6.6, 1.1.1.1, 10.0.0.2",
        b"x-forwarded-proto": b"http, HTTPS",
        b"x-forwarded-host": b"evil, shop.example",
        b"x-forwarded-port": b"8443",
        b"x-forwarded-prefix": b"/shop",
    }
    trust = Trust(PROXIES)
    head = completed(trust, PROXY, fields)
    assert (head.client_ip, head.scheme) == ("1.1.1.1", b"https")
    for name in fields:  # none of them may be missing from the cache's key
        told(trust, PROXY, {**fields, name: b"1"})
    assert told(trust, PROXY, fields) == {
        "x-forwarded-for": "1.1.1.1, 10.0.0.2, 10.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "shop.example",
        "x-forwarded-port": "8443",
        "x-forwarded-prefix": "/shop",
        "forwarded": 'for=1.1.1.1;host="shop.example";proto=https, for=10.0.0.2, for=10.0.0.1',
    }


def test_forwarded_says_scheme_and_host_of_the_clients_hop() -> None:
    trust = Trust(PROXIES, header="forwarded")
    fields = {
        b"forwarded": b"for=6.6.6.6;host=evil, for=1.1.1.1;proto=https;host=shop.example, for=10.0.0.2;proto=http",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"evil",
    }
    result = told(trust, PROXY, fields)
    assert result["forwarded"] == 'for=1.1.1.1;host="shop.example";proto=https, for=10.0.0.2, for=10.0.0.1'
    assert (result["x-forwarded-host"], result["x-forwarded-proto"]) == ("shop.example", "https")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-forwarded-proto", b"gopher"),
        (b"x-forwarded-host", b'a"b'),
        (b"x-forwarded-host", b"user@h"),
        (b"x-forwarded-port", b"0"),
        (b"x-forwarded-port", b"70000"),
        (b"x-forwarded-port", b"8x"),
        (b"x-forwarded-prefix", b"no-slash"),
        (b"x-forwarded-prefix", b"//evil"),
    ],
)
def test_nonsense_of_a_trusted_proxy_is_ignored(name: bytes, value: bytes) -> None:
    trust = Trust(PROXIES)
    assert told(trust, PROXY, {name: value}) == told(trust, PROXY, {})


def test_websocket_schemes() -> None:
    assert completed(Trust(PROXIES), PROXY, {b"x-forwarded-proto": b"wss"}).scheme == b"https"


def test_unix_peers() -> None:
    assert told(Trust(), "unix", {b"x-forwarded-for": b"1.1.1.1"}) == {
        "x-forwarded-proto": "http",
        "x-forwarded-host": "api.example",
        "x-forwarded-port": "80",
        "forwarded": 'for=unknown;host="api.example";proto=http',
    }
    trust = Trust(["unix"])
    assert completed(trust, "unix", {b"x-forwarded-for": b"1.1.1.1"}).client_ip == "1.1.1.1"
    assert told(trust, "unix", {b"x-forwarded-for": b"1.1.1.1"})["x-forwarded-for"] == "1.1.1.1"
    assert "x-forwarded-for" not in told(trust, "unix", {})


def test_hops_are_bounded() -> None:
    chain = ["1.1.1.1"] + [PROXY_2] * 1000
    head = completed(Trust(PROXIES), PROXY, {b"x-forwarded-for": ", ".join(chain).encode()})
    assert head.client_ip == PROXY_2


def test_memories_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_ENTRIES", 8)
    trust = Trust(PROXIES)
    for i in range(100):
        told(trust, f"203.0.113.{i}", {b"host": b"h%d" % i})
        told(trust, PROXY, {b"x-forwarded-for": b"1.1.1.%d" % i})
    told(trust, PROXY, {b"x-forwarded-for": b"1.1.1.1, " * 100 + b"2.2.2.2"})
    told(trust, STRANGER, {b"host": b"h" * 250 + b":0000001"[:6]})
    assert max(len(trust._peers), len(trust._hops), len(trust._lines)) <= 8


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "nonsense", "", "10.0.0.0/33"])
def test_wrong_networks_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Trust([wrong])


NODES = st.sampled_from(["1.1.1.1", "10.0.0.2", "unknown", "", "x y", "[::1]:1", '"', ";", "for=1.1.1.1", 'for="', "="])


@given(
    st.lists(NODES, max_size=6), st.sampled_from(["x-forwarded-for", "forwarded"]), st.sampled_from([PROXY, STRANGER])
)
def test_whatever_is_sent_the_lines_are_clean(nodes: Sequence[str], header: Header, peer: str) -> None:
    result = told(Trust(PROXIES, header=header), peer, {header.encode(): ", ".join(nodes).encode()})
    chain = result["x-forwarded-for"].split(", ")
    assert chain[-1] == peer
    assert all(hop.startswith("10.") for hop in chain[1:])
    assert len(chain) <= len(nodes) + 1
