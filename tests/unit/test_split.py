"""Traffic is shared by weight; a key keeps its way, and moves only when it must."""

from collections import Counter
from random import Random

import pytest

from agent.traffic.split import Split
from agent.traffic.sticky import sticky_key
from agent.wire.head import RequestHead
from tests.kit.head import request_head

USER = sticky_key("header:x-user")


def user(number: int) -> RequestHead:
    return request_head(fields={b"x-user": b"u%d" % number})


def by_user(*weights: tuple[str, int]) -> list[str]:
    split = Split([(name, weight, name) for name, weight in weights], Random(1), USER)
    return [split(user(number)) for number in range(4000)]


@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("weights", [(95, 5), (1, 1), (2, 0, 1), (700, 200, 100)])
def test_shares(weights: tuple[int, ...], sticky: bool) -> None:
    split = Split([(str(i), w, i) for i, w in enumerate(weights)], Random(7), USER if sticky else None)
    counts = Counter(split(user(number)) for number in range(10_000))
    for place, weight in enumerate(weights):
        assert counts[place] == pytest.approx(10_000 * weight / sum(weights), abs=250)
        assert weight or not counts[place]


def test_a_key_keeps_its_way_in_every_process() -> None:
    """Written down once: a change would move users between versions at an upgrade of the sidecar."""
    assert "".join(by_user(("a", 1), ("b", 1))[:24]) == "baaabaabbbbbaabbbabbbbaa"
    assert by_user(("a", 1), ("b", 1)) == by_user(("a", 1), ("b", 1))


def test_only_those_move_who_must() -> None:
    before = by_user(("a", 95), ("b", 5), ("c", 20))
    after = by_user(("a", 95), ("b", 30), ("c", 20))
    moves = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moves == {("a", "b"), ("c", "b")}


def test_order_of_the_choices_does_not_matter_to_a_key() -> None:
    assert by_user(("a", 3), ("b", 1)) == by_user(("b", 1), ("a", 3))


def test_one_way_is_always_taken() -> None:
    assert set(by_user(("a", 0), ("b", 3))) == {"b"}


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ValueError, match="weight above 0"):
        Split([("a", 0, "a")], Random(1))
