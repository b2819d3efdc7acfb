"""Failing endpoints are ejected, longer each time, and never beyond the floor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.core.address import parse_address
from agent.traffic.balance import Endpoint
from agent.traffic.outlier import OutlierDetection, OutlierSettings


def detection(count: int = 4, **settings: float) -> tuple[OutlierDetection, list[Endpoint]]:
    endpoints = [Endpoint(parse_address(f"http://10.0.0.{number}")) for number in range(count)]
    return OutlierDetection(OutlierSettings.model_validate(settings), endpoints), endpoints


def fail(outlier: OutlierDetection, endpoint: Endpoint, now: float, times: int = 5, *, gateway: bool = False) -> bool:
    return [outlier.record(endpoint, False, now, gateway=gateway) for _ in range(times)][-1]


def test_ejected_after_so_many_in_a_row_and_back_by_itself() -> None:
    outlier, endpoints = detection()
    assert not fail(outlier, endpoints[0], 100.0, 4)
    assert endpoints[0].ejected_until <= 100.0
    assert fail(outlier, endpoints[0], 100.0, 1)
    assert endpoints[0].ejected_until == 130.0
    assert outlier.ejected(129.9) == 1
    assert outlier.ejected(130.0) == 0


def test_a_success_begins_the_count_anew() -> None:
    outlier, endpoints = detection()
    for _ in range(10):
        fail(outlier, endpoints[0], 100.0, 4, gateway=True)
        outlier.record(endpoints[0], True, 100.0)
    assert endpoints[0].ejections == 0


def test_gateway_failures_have_a_count_of_their_own() -> None:
    outlier, endpoints = detection(consecutive_5xx=0, consecutive_gateway_failure=3)
    assert not fail(outlier, endpoints[0], 100.0, 50)
    fail(outlier, endpoints[0], 100.0, 2, gateway=True)
    fail(outlier, endpoints[0], 100.0, 1)
    assert not fail(outlier, endpoints[0], 100.0, 2, gateway=True)
    assert fail(outlier, endpoints[0], 100.0, 1, gateway=True)


def test_each_ejection_in_a_row_is_longer_up_to_the_limit() -> None:
    outlier, (bad, *_) = detection(base_ejection_s=30, max_ejection_s=80)
    lengths = []
    now = 100.0
    for _ in range(5):
        assert fail(outlier, bad, now)
        lengths.append(bad.ejected_until - now)
        now = bad.ejected_until + 1.0
    assert lengths == [30.0, 60.0, 80.0, 80.0, 80.0]


def test_good_behaviour_is_remembered_too() -> None:
    outlier, (bad, *_) = detection(interval_s=10)
    fail(outlier, bad, 0.0)
    fail(outlier, bad, 31.0)
    assert bad.ejections == 2
    back = bad.ejected_until
    fail(outlier, bad, back + 15.0)
    assert bad.ejections == 2, "one interval took one off, this ejection put it back"
    fail(outlier, bad, bad.ejected_until + 1000.0)
    assert bad.ejections == 1


@pytest.mark.parametrize(
    ("count", "percent", "most"),
    [(1, 100, 0), (2, 50, 1), (2, 49, 0), (2, 100, 1), (3, 50, 1), (4, 50, 2), (10, 10, 1), (10, 100, 9), (5, 0, 0)],
)
def test_the_floor_holds(count: int, percent: int, most: int) -> None:
    outlier, endpoints = detection(count, max_ejection_percent=percent)
    for endpoint in endpoints:
        fail(outlier, endpoint, 100.0, 20)
    assert outlier.ejected(100.0) == most


def test_who_was_kept_by_the_floor_goes_when_there_is_room() -> None:
    outlier, (one, two) = detection(2)
    fail(outlier, one, 100.0)
    assert not fail(outlier, two, 100.0)
    assert fail(outlier, two, 131.0, 1)


def test_late_answers_of_an_ejected_endpoint_change_nothing() -> None:
    outlier, (bad, *_) = detection()
    fail(outlier, bad, 100.0)
    assert not fail(outlier, bad, 110.0, 20)
    assert (bad.ejected_until, bad.ejections) == (130.0, 1)


def test_a_new_set_of_endpoints() -> None:
    outlier, endpoints = detection(4)
    outlier.use(endpoints[:1])
    assert not fail(outlier, endpoints[0], 100.0, 20)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans(), st.floats(0, 40)), max_size=300),
    st.integers(1, 6),
    st.integers(0, 100),
)
def test_never_beyond_the_floor(events: list[tuple[int, bool, bool, float]], count: int, percent: int) -> None:
    outlier, endpoints = detection(
        count, max_ejection_percent=percent, consecutive_5xx=2, consecutive_gateway_failure=1
    )
    now = 0.0
    for number, ok, gateway, passed in events:
        now += passed
        outlier.record(endpoints[number % count], ok, now, gateway=gateway)
        assert outlier.ejected(now) < count
        assert outlier.ejected(now) * 100 <= percent * count
        assert all(endpoint.ejected_until - now <= 300 for endpoint in endpoints)


@pytest.mark.parametrize("wrong", [{"consecutive_5xx": -1}, {"max_ejection_percent": 101}, {"base_ejection_s": 0}])
def test_wrong_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        OutlierSettings.model_validate(wrong)
