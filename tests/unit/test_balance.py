"""Balancers spread evenly, prefer the better, stay away from the ejected and the tried, and never have nothing."""

from collections import Counter
from collections.abc import Sequence
from math import inf
from random import Random

import pytest

from agent.core.address import parse_address
from agent.traffic.balance import DECAY_S, FAILURE_S, Balance, Balancer, Endpoint, balancer, usable
from agent.traffic.sticky import hash64, mix64, sticky_key
from agent.wire.head import RequestHead
from tests.kit.head import request_head

KINDS: tuple[Balance, ...] = ("round_robin", "least_requests", "p2c_ewma", "sticky")
HEAD = request_head()


def endpoints(count: int) -> list[Endpoint]:
    return [Endpoint(parse_address(f"http://10.0.0.{number}:80")) for number in range(count)]


def make(kind: Balance, seed: int = 1) -> Balancer:
    return balancer(kind, Random(seed), sticky_key("header:x-key") if kind == "sticky" else None)


def keyed(number: int) -> RequestHead:
    return request_head(fields={b"x-key": b"%d" % number})


def spread(kind: Balance, among: list[Endpoint], exclude: Sequence[Endpoint] = (), now: float = 100.0) -> Counter[int]:
    pick = make(kind)
    picked = [pick(among, keyed(number), now, exclude) for number in range(3000)]
    return Counter(among.index(endpoint) for endpoint in picked if endpoint is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_and_only_one(kind: Balance) -> None:
    assert make(kind)([], HEAD, 0.0, ()) is None
    (only,) = endpoints(1)
    assert make(kind)([only], HEAD, 0.0, ()) is only
    assert make(kind)([only], HEAD, 0.0, (only,)) is only
    only.ejected_until = inf
    assert make(kind)([only], HEAD, 0.0, ()) is only


@pytest.mark.parametrize("kind", KINDS)
def test_equals_are_served_evenly(kind: Balance) -> None:
    counts = spread(kind, endpoints(5))
    assert len(counts) == 5
    assert all(500 < count < 700 for count in counts.values())


@pytest.mark.parametrize("kind", KINDS)
def test_ejected_ones_get_nothing_until_their_time_is_over(kind: Balance) -> None:
    among = endpoints(5)
    among[1].ejected_until = among[2].ejected_until = 100.5
    counts = spread(kind, among, now=100.0)
    assert set(counts) == {0, 3, 4}
    assert all(800 < count < 1200 for count in counts.values())
    assert set(spread(kind, among, now=100.5)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("kind", KINDS)
def test_retries_go_elsewhere_where_there_is_an_elsewhere(kind: Balance) -> None:
    among = endpoints(4)
    assert set(spread(kind, among, exclude=among[:2])) == {2, 3}
    assert set(spread(kind, among, exclude=among[:3])) == {3}
    assert set(spread(kind, among, exclude=among)) == {0, 1, 2, 3}
    among[3].ejected_until = inf
    assert set(spread(kind, among, exclude=among[:2])) == {2}
    assert set(spread(kind, among, exclude=among[:3])) == {0, 1, 2}, "tried but healthy goes before ejected"


@pytest.mark.parametrize("kind", KINDS)
def test_panic_uses_all(kind: Balance) -> None:
    among = endpoints(3)
    for endpoint in among:
        endpoint.ejected_until = inf
    assert set(spread(kind, among)) == {0, 1, 2}
    assert set(spread(kind, among, exclude=among[:1])) == {1, 2}


def test_round_robin_takes_turns() -> None:
    among = endpoints(3)
    pick = make("round_robin")
    first = [pick(among, HEAD, 0.0, ()) for _ in range(3)]
    assert {endpoint.address for endpoint in first if endpoint} == {endpoint.address for endpoint in among}
    assert [pick(among, HEAD, 0.0, ()) for _ in range(3)] == first


def test_round_robin_begins_anywhere() -> None:
    among = endpoints(8)
    assert len({make("round_robin", seed)(among, HEAD, 0.0, ()) for seed in range(40)}) > 4


def test_least_requests_of_two() -> None:
    among = endpoints(2)
    among[0].in_flight = 3
    assert set(spread("least_requests", among)) == {1}
    among = endpoints(10)
    among[0].in_flight = 1
    assert 0 not in spread("least_requests", among)


def test_p2c_ewma_prefers_the_faster_and_shares_when_it_fills_up() -> None:
    fast, slow = endpoints(2)
    fast.observe(0.01, True, 100.0)
    slow.observe(0.1, True, 100.0)
    assert set(spread("p2c_ewma", [fast, slow], now=100.0)) == {0}
    fast.in_flight = 12
    assert set(spread("p2c_ewma", [fast, slow], now=100.0)) == {1}


def test_latency_peaks_at_once_and_falls_slowly() -> None:
    (endpoint,) = endpoints(1)
    endpoint.observe(0.01, True, 0.0)
    endpoint.observe(1.0, True, 0.1)
    assert endpoint.latency_s == 1.0
    endpoint.observe(0.01, True, 0.2)
    assert 0.95 < endpoint.latency_s < 1.0
    endpoint.observe(0.01, True, 0.2 + DECAY_S)
    assert 0.3 < endpoint.latency_s < 0.5
    for step in range(100):
        endpoint.observe(0.01, True, 20.0 + step)
    assert endpoint.latency_s == pytest.approx(0.01, rel=0.05)


def test_cost_fades_so_that_slow_endpoints_get_another_chance() -> None:
    slow, fast = endpoints(2)
    slow.observe(2.0, True, 0.0)
    fast.observe(0.01, True, 0.0)
    assert slow.cost(1.0) > fast.cost(1.0)
    for step in range(1, 90):
        fast.observe(0.01, True, float(step))
    assert slow.cost(89.0) < fast.cost(89.0)


@pytest.mark.parametrize("seconds", [-1.0, 0.0001])
def test_failing_fast_does_not_look_fast(seconds: float) -> None:
    bad, good = endpoints(2)
    good.observe(0.05, True, 1.0)
    bad.observe(seconds, False, 1.0)
    assert bad.latency_s == FAILURE_S
    assert bad.cost(1.0) > good.cost(1.0)


def test_slow_failures_count_in_full() -> None:
    (endpoint,) = endpoints(1)
    endpoint.observe(7.0, False, 1.0)
    assert endpoint.latency_s == 7.0


def test_a_new_endpoint_gets_one_probe_not_a_flood() -> None:
    new, known = endpoints(2)
    known.observe(0.02, True, 0.0)
    assert new.cost(0.0) < known.cost(0.0)
    new.in_flight = 1
    assert new.cost(0.0) > known.cost(0.0)


def test_time_that_stands_still_or_goes_back_breaks_nothing() -> None:
    (endpoint,) = endpoints(1)
    endpoint.observe(0.2, True, 5.0)
    endpoint.observe(0.1, True, 5.0)
    endpoint.observe(0.1, True, 4.0)
    assert 0.1 <= endpoint.latency_s <= 0.2


def test_sticky_keeps_keys_when_others_go() -> None:
    among = endpoints(5)
    pick = make("sticky")
    before = {number: pick(among, keyed(number), 0.0, ()) for number in range(500)}
    assert before == {number: pick(list(reversed(among)), keyed(number), 0.0, ()) for number in range(500)}
    gone = among[2]
    gone.ejected_until = inf
    after = {number: pick(among, keyed(number), 0.0, ()) for number in range(500)}
    moved = {number for number in before if before[number] is not after[number]}
    assert moved == {number for number in before if before[number] is gone}


def test_sticky_is_the_same_in_every_process() -> None:
    """Numbers written down once: a change would move every user's session at an upgrade."""
    among = endpoints(4)
    pick = make("sticky")
    picked = [pick(among, keyed(number), 0.0, ()) for number in range(10)]
    assert [among.index(endpoint) for endpoint in picked if endpoint] == [1, 0, 2, 1, 0, 1, 3, 2, 2, 2]
    assert hash64(b"outrigger") == 0xB5F8C95F342DC28B
    assert mix64(1, 2) == 0x1E535EEDE31428F0


def test_usable_is_empty_only_for_nothing() -> None:
    assert usable([], 0.0, ()) == []


def test_sticky_needs_a_key() -> None:
    with pytest.raises(ValueError, match="needs a key"):
        balancer("sticky", Random(1))


@pytest.mark.parametrize(
    ("by", "one", "same", "other"),
    [
        ("cookie:sid", {b"cookie": b"a=1; sid=x"}, {b"cookie": b"sid=x;b=2"}, {b"cookie": b"sid=y"}),
        ("header:X-User", {b"x-user": b"u"}, {b"x-user": b"u", b"a": b"1"}, {b"x-user": b"v"}),
    ],
)
def test_sticky_keys(by: str, one: dict[bytes, bytes], same: dict[bytes, bytes], other: dict[bytes, bytes]) -> None:
    key = sticky_key(by)
    assert key(request_head(fields=one)) == key(request_head(fields=same, peer="192.0.2.9"))
    assert key(request_head(fields=one)) != key(request_head(fields=other))
    without = [key(request_head(peer=peer)) for peer in ("192.0.2.1", "192.0.2.1", "192.0.2.2")]
    assert without[0] == without[1] != without[2]
    assert key(request_head(fields={b"cookie": b"sid=; xsid=x"})) == key(request_head())


@pytest.mark.parametrize("by", ["", "cookie:", "cookie:a b", "session", "header:"])
def test_wrong_sticky_keys(by: str) -> None:
    with pytest.raises(ValueError, match="cookie:NAME"):
        sticky_key(by)
