"""Keys made from requests: what is counted together, and that nobody can pick someone else's key."""

import pytest

from agent.core.identity import Identity
from agent.wire.head import RequestHead
from agent.wire.request_key import MAX_LENGTH, check_part, key_of, network_of
from tests.kit.head import request_head


def ann(**values: str) -> Identity:
    claims = {"plan": "gold", "org": {"id": 7, "beta": True}, "https://shop/x.y": "url", "groups": ["a"], "zero": 0}
    return Identity("ann", values.get("issuer", "main"), claims, tenant=values.get("tenant", "shop"))


def head(**values: object) -> RequestHead:
    made = request_head(
        method=b"POST", host=b"api.example", client_ip="10.0.0.1", fields={b"x-plan": b"gold"}, identity=ann()
    )
    made.route = "orders"
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (["subject"], ("ann", "main", "shop")),
        (["ip"], "10.0.0.1"),
        (["route"], "orders"),
        (["tenant"], "shop"),
        (["issuer"], "main"),
        (["host"], b"api.example"),
        (["method"], b"POST"),
        (["global"], ""),
        (["header:X-Plan"], b"gold"),
        (["claim:plan"], "gold"),
        (["claim:org.id"], "7"),
        (["claim:org.beta"], "true"),
        (["claim:zero"], "0"),
        (["claim:https://shop/x.y"], "url"),
        (["route", "method"], ("orders", b"POST")),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_parts(parts: list[str], key: object) -> None:
    assert key_of(parts)(head()) == key


@pytest.mark.parametrize(
    "part", ["subject", "tenant", "issuer", "header:x-none", "claim:none", "claim:org.none.deeper", "claim:groups"]
)
def test_the_address_stands_in_for_what_is_missing(part: str) -> None:
    request = head(fields={}) if part.startswith("claim") else head(identity=None, fields={})
    assert key_of([part])(request) == ("ip", "10.0.0.1")


@pytest.mark.parametrize("part", ["subject", "tenant", "claim:plan"])
def test_without_a_token_the_address_stands_in(part: str) -> None:
    assert key_of([part])(head(identity=None)) == ("ip", "10.0.0.1")


def test_the_same_subject_of_another_issuer_or_realm_is_someone_else() -> None:
    by_subject = key_of(["subject"])
    keys = {
        by_subject(head(identity=identity))
        for identity in (ann(), ann(issuer="other"), ann(tenant="rival"), ann(issuer="shop", tenant="main"))
    }
    assert len(keys) == 4


def test_a_header_that_reads_like_an_address_is_no_address() -> None:
    by_header = key_of(["header:x-key"])
    forged = head(fields={b"x-key": b"10.0.0.1"})
    assert by_header(forged) != by_header(head(fields={}))


def test_parts_do_not_run_together() -> None:
    pair = key_of(["header:a", "header:b"])
    assert pair(head(fields={b"a": b"x", b"b": b"yz"})) != pair(head(fields={b"a": b"xy", b"b": b"z"}))


@pytest.mark.parametrize("part", ["header:x-key", "subject", "claim:long", "host"])
def test_long_values_are_bounded_but_told_apart(part: str) -> None:
    def key(last: str) -> object:
        value = "k" * 30_000 + last
        claims = {"long": value}
        identity = Identity(value, "main", claims)
        return key_of([part])(head(identity=identity, fields={b"x-key": value.encode()}, host=value.encode()))

    assert key("1") == key("1")
    assert key("1") != key("2")
    assert len(repr(key("1"))) < 2 * MAX_LENGTH


def test_a_lone_surrogate_in_a_claim_is_no_crash() -> None:
    identity = Identity("\ud800" * 100, "main", {})
    assert key_of(["subject"])(head(identity=identity))


@pytest.mark.parametrize(
    ("one", "other", "prefix", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", 64, True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", 64, False),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", 48, True),
        ("2001:db8::1", "2001:db8::2", 128, False),
        ("2001:db8::1", "2001:0db8:0:0:0:0:0:1", 128, True),
        ("::ffff:10.0.0.1", "10.0.0.1", 64, True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", 64, False),
        ("fe80::1%eth0", "fe80::2%eth1", 64, True),
        ("10.0.0.1", "10.0.0.2", 64, False),
        ("unix", "unix", 64, True),
        ("not:an:address", "not:an:address", 64, True),
    ],
)
def test_networks(one: str, other: str, prefix: int, same: bool) -> None:
    assert (network_of(one, prefix) == network_of(other, prefix)) is same


@pytest.mark.parametrize("part", ["", "user", "header:", "header:a b", "claim:", "Subject", "header:é"])
def test_unknown_parts_are_refused_with_what_is_allowed(part: str) -> None:
    with pytest.raises(ValueError, match="use subject, ip, route"):
        check_part(part)
