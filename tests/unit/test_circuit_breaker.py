"""The circuit breaker: what opens it, what doesn't, how it closes, and that nothing can wedge it."""

from typing import Any

import pytest
from pydantic import ValidationError

from agent.policies.circuit_breaker import FAILURE_CODES, CircuitBreaker, Settings, State
from agent.ports.policy import Deny
from agent.telemetry.metrics import Registry
from agent.wire.codes import BY_CODE
from agent.wire.head import RequestHead
from tests.kit.head import request_head

QUICK = {"min_requests": 4, "window_s": 10, "open_s": 5, "half_open": 2, "probe_timeout_s": 30}


class End:
    """How a request ended."""

    def __init__(
        self, status: int = 200, code: str = "", *, origin: str = "", cancelled: bool = False, upstream_s: float = 0.01
    ) -> None:
        self.status = status
        self.code = code
        self.origin = origin or ("agent" if code else "app")
        self.cancelled = cancelled
        self.upstream_s = upstream_s


GOOD = End()
BAD = End(500)
GONE = End(0, cancelled=True, upstream_s=-1.0)
REFUSED = End(429, "rate_limited", upstream_s=-1.0)
SLOW = End(upstream_s=2.0)
TIMED_OUT = End(504, "timeout", upstream_s=-1.0)


def make(registry: Registry | None = None, **changes: Any) -> CircuitBreaker:
    return CircuitBreaker(Settings.model_validate(QUICK | changes), route="r", registry=registry or Registry())


def state_of(breaker: CircuitBreaker) -> State:
    return breaker.state


def state_cell(registry: Registry) -> list[float]:
    return registry.gauge("outrigger_circuit_breaker_state", "", ("route",), combine="max").at("r")


def admit(breaker: CircuitBreaker, now: float) -> RequestHead | None:
    head = request_head()
    verdict = breaker.on_request(head, now)
    assert verdict is None or isinstance(verdict, Deny)
    return head if verdict is None else None


def run(breaker: CircuitBreaker, now: float, *ends: End) -> None:
    for end in ends:
        head = admit(breaker, now)
        assert head is not None, "refused"
        breaker.on_response(head, end, now)


def retry_after(breaker: CircuitBreaker, now: float) -> int:
    verdict = breaker.on_request(request_head(), now)
    assert isinstance(verdict, Deny)
    assert (verdict.refusal.status, verdict.refusal.code) == (503, "circuit_open")
    name, _, value = verdict.extra.removesuffix(b"\r\n").partition(b": ")
    assert name == b"retry-after"
    return int(value)


def tripped(at: float = 100.0, **changes: Any) -> CircuitBreaker:
    breaker = make(**changes)
    run(breaker, at, BAD, BAD, BAD, BAD)
    assert state_of(breaker) is State.OPEN
    return breaker


@pytest.mark.parametrize(
    ("changes", "ends", "opens"),
    [
        ({}, [BAD] * 4, True),
        ({}, [BAD] * 3, False),  # below min_requests
        ({}, [GOOD, GOOD, BAD, BAD], True),
        ({}, [GOOD, GOOD, GOOD, BAD], False),
        ({}, [GOOD, GOOD, GOOD, BAD, BAD, BAD], True),
        ({}, [BAD, BAD, BAD, GOOD], False),  # a success never opens it; the next failure does
        ({}, [BAD, BAD, BAD, GOOD, BAD], True),
        ({"failure_ratio": 1}, [GOOD, BAD, BAD, BAD], False),
        ({"failure_ratio": 0.2}, [GOOD, GOOD, GOOD, GOOD, BAD], True),
        ({"consecutive_failures": 2}, [GOOD, BAD, BAD], True),
        ({"consecutive_failures": 3, "failure_ratio": None}, [BAD, BAD, GOOD] * 5, False),
        ({"consecutive_failures": 3, "failure_ratio": None}, [BAD, GONE, BAD, REFUSED, BAD], True),
        ({"slow_call_s": 1}, [GOOD, GOOD, SLOW, SLOW], True),
        ({"slow_call_s": 1}, [GOOD, GOOD, GOOD, SLOW], False),
        ({"slow_call_s": 1, "slow_ratio": 1}, [GOOD, SLOW, SLOW, SLOW], False),
        ({"slow_call_s": 2}, [SLOW] * 4, True),  # slow is `slow_call_s` or more
        ({"slow_call_s": 1, "failure_ratio": None}, [BAD] * 9, False),
        ({"slow_call_s": 1, "failure_ratio": None}, [TIMED_OUT] * 4, True),
        ({}, [SLOW] * 9, False),
        ({"failure_statuses": [429]}, [End(429)] * 4, True),
        ({"failure_statuses": [429]}, [BAD] * 9, False),
        ({"failure_statuses": ["429-430", 500]}, [End(430), End(429), BAD, BAD], True),
    ],
)
def test_what_opens_it(changes: dict[str, Any], ends: list[End], opens: bool) -> None:
    breaker = make(**changes)
    run(breaker, 100.0, *ends)
    assert state_of(breaker) is (State.OPEN if opens else State.CLOSED)


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 404, 408, 409, 422, 429, 499])
def test_answers_below_500_are_successes(status: int) -> None:
    breaker = make(failure_ratio=0.01)
    run(breaker, 100.0, *[End(status)] * 20)
    assert state_of(breaker) is State.CLOSED


@pytest.mark.parametrize(
    "end", [*(End(BY_CODE[code].status, code) for code in FAILURE_CODES), End(200, "upstream_closed")]
)
def test_no_answer_or_half_of_one_is_a_failure(end: End) -> None:
    breaker = make()
    run(breaker, 100.0, *[end] * 4)
    assert state_of(breaker) is State.OPEN


@pytest.mark.parametrize("status", [101, 200])
def test_a_quiet_stream_that_was_cut_is_no_failure(status: int) -> None:
    breaker = make(slow_call_s=1)
    run(breaker, 100.0, *[End(status, "timeout")] * 50)
    assert state_of(breaker) is State.CLOSED


@pytest.mark.parametrize("code", sorted(set(BY_CODE) - FAILURE_CODES))
def test_what_the_sidecar_decides_is_nothing(code: str) -> None:
    breaker = make()
    run(breaker, 100.0, BAD, BAD, BAD, *[End(BY_CODE[code].status, code)] * 20)
    assert state_of(breaker) is State.CLOSED
    run(breaker, 100.0, BAD)
    assert state_of(breaker) is State.OPEN, "and it diluted nothing"


@pytest.mark.parametrize(
    "end", [GONE, End(500, cancelled=True), End(504, "timeout", cancelled=True), End(500, origin="agent")]
)
def test_a_client_that_goes_away_says_nothing(end: End) -> None:
    """Netflix concurrency-limits, PR 146: cancelled calls were taken for overload."""
    breaker = make(failure_statuses=["500-599"])
    run(breaker, 100.0, *[end] * 50)
    assert state_of(breaker) is State.CLOSED
    run(breaker, 100.0, BAD, BAD, BAD)
    assert state_of(breaker) is State.CLOSED, "and counts as no request"


def test_failures_are_forgotten_after_the_window() -> None:
    breaker = make()
    run(breaker, 100.0, BAD, BAD, BAD)
    run(breaker, 111.0, BAD)
    assert state_of(breaker) is State.CLOSED
    run(breaker, 112.0, BAD, BAD, BAD)
    assert state_of(breaker) is State.OPEN


@pytest.mark.parametrize(("after_s", "seconds"), [(0, 5), (0.5, 5), (4, 1), (4.001, 1), (4.999, 1)])
def test_open_refuses_and_says_how_long(after_s: float, seconds: int) -> None:
    breaker = tripped()
    assert retry_after(breaker, 100 + after_s) == seconds
    kind, sentence = breaker.explain(request_head(), 100 + after_s)
    assert (kind, f"again in {seconds} s" in sentence) == ("deny", True)


def test_retry_after_of_a_fraction_is_rounded_up() -> None:
    assert retry_after(tripped(open_s=0.2), 100.0) == 1
    assert retry_after(tripped(open_s=2.2), 100.0) == 3


def test_refusals_of_the_same_second_share_an_answer() -> None:
    breaker = tripped()
    first, second, third = (breaker.on_request(request_head(), now) for now in (100.1, 100.2, 101.5))
    assert first is second
    assert first is not third


def test_explain_changes_nothing() -> None:
    registry = Registry()
    breaker = make(registry)
    assert breaker.explain(request_head(), 100.0) == ("allow", "the circuit is closed")
    run(breaker, 100.0, *[BAD] * 4)
    kind, sentence = breaker.explain(request_head(), 105.0)
    assert (kind, "probe" in sentence) == ("allow", True)
    assert state_of(breaker) is State.OPEN
    assert admit(breaker, 105.0)
    assert admit(breaker, 105.0)
    assert breaker.explain(request_head(), 105.0)[0] == "deny"
    assert breaker.explain(request_head(), 136.0)[0] == "allow"
    assert registry.counter("outrigger_circuit_breaker_rejected_total", "", ("route",)).at("r") == [0]


def test_half_open_admits_exactly_its_probes() -> None:
    breaker = tripped()
    probes = [admit(breaker, 105.0) for _ in range(5)]
    assert [probe is not None for probe in probes] == [True, True, False, False, False]
    assert state_of(breaker) is State.HALF_OPEN
    assert retry_after(breaker, 105.0) == 1


def test_successful_probes_close_it() -> None:
    breaker = tripped()
    run(breaker, 105.0, GOOD)
    assert state_of(breaker) is State.HALF_OPEN
    run(breaker, 105.0, End(404))
    assert state_of(breaker) is State.CLOSED
    run(breaker, 105.0, BAD, BAD, BAD)
    assert state_of(breaker) is State.CLOSED, "it starts anew, without the failures from before"


@pytest.mark.parametrize(("end", "changes"), [(BAD, {}), (TIMED_OUT, {}), (SLOW, {"slow_call_s": 1})])
def test_a_failed_probe_opens_it_again(end: End, changes: dict[str, Any]) -> None:
    breaker = tripped(**changes)
    run(breaker, 105.0, GOOD, end)
    assert state_of(breaker) is State.OPEN
    assert retry_after(breaker, 105.0) == 5
    run(breaker, 110.0, GOOD)
    assert state_of(breaker) is State.HALF_OPEN, "the success of the first round no longer counts"


@pytest.mark.parametrize("end", [GONE, REFUSED, End(503, "overloaded", upstream_s=-1.0)])
def test_a_probe_that_says_nothing_gives_its_place_back(end: End) -> None:
    breaker = tripped()
    for _ in range(10):
        heads = [admit(breaker, 105.0), admit(breaker, 105.0)]
        assert admit(breaker, 105.0) is None
        for head in heads:
            assert head is not None
            breaker.on_response(head, end, 105.0)
        assert state_of(breaker) is State.HALF_OPEN
    run(breaker, 105.0, GOOD, GOOD)
    assert state_of(breaker) is State.CLOSED


def test_lost_probes_do_not_wedge_it() -> None:
    breaker = tripped()
    lost = [admit(breaker, 105.0), admit(breaker, 106.0)]
    assert None not in lost
    assert admit(breaker, 134.9) is None
    first = admit(breaker, 135.0)
    assert first is not None
    assert admit(breaker, 135.0) is None, "the other one has a second left"
    assert lost[0] is not None
    breaker.on_response(lost[0], BAD, 135.5)
    assert state_of(breaker) is State.HALF_OPEN, "whoever was given up isn't heard any more"
    second = admit(breaker, 136.0)
    assert second is not None
    for head in (first, second):
        breaker.on_response(head, GOOD, 136.0)
    assert state_of(breaker) is State.CLOSED


def test_requests_from_before_the_trip_decide_nothing() -> None:
    """An application that hung and is back: what times out now was sent long ago."""
    breaker = make()
    hanging = [admit(breaker, 99.0) for _ in range(50)]
    run(breaker, 100.0, *[BAD] * 4)
    run(breaker, 105.0, GOOD)
    for head in hanging[:10]:
        assert head is not None
        breaker.on_response(head, TIMED_OUT, 105.0)
    assert state_of(breaker) is State.HALF_OPEN
    run(breaker, 105.0, GOOD)
    for head in hanging[10:]:
        assert head is not None
        breaker.on_response(head, TIMED_OUT, 114.0)
    assert state_of(breaker) is State.CLOSED
    run(breaker, 114.0, *[BAD] * 4)
    assert state_of(breaker) is State.OPEN, "new failures count at once"


def test_closed_for_long_it_watches_no_single_request() -> None:
    breaker = tripped()
    run(breaker, 105.0, GOOD, GOOD)
    under_way = admit(breaker, 106.0)
    assert under_way is not None
    run(breaker, 136.0, GOOD)
    assert breaker._circuit.is_plain
    assert not breaker._circuit._fresh
    breaker.on_response(under_way, BAD, 137.0)
    run(breaker, 137.0, BAD, BAD)
    assert state_of(breaker) is State.OPEN


def test_open_time_doubles_while_trips_follow_each_other() -> None:
    breaker = tripped(max_open_s=18)
    now, waits = 100.0, [retry_after(breaker, 100.0)]
    for _ in range(3):
        now += waits[-1]
        run(breaker, now, BAD)
        waits.append(retry_after(breaker, now))
    assert waits == [5, 10, 18, 18]
    now += 18
    run(breaker, now, GOOD, GOOD)
    run(breaker, now + 9, *[BAD] * 4)  # soon after: still the same trouble
    assert retry_after(breaker, now + 9) == 18
    run(breaker, now + 27, GOOD, GOOD)
    run(breaker, now + 38, *[BAD] * 4)
    assert retry_after(breaker, now + 38) == 5


def test_open_time_stays_without_a_maximum() -> None:
    breaker = tripped()
    run(breaker, 105.0, BAD)
    assert retry_after(breaker, 105.0) == 5


def test_metrics() -> None:
    registry = Registry()
    breaker = make(registry)
    state = state_cell(registry)
    moves = registry.counter("outrigger_circuit_breaker_transitions_total", "", ("route", "to"))
    assert state == [0]
    run(breaker, 100.0, *[BAD] * 4)
    assert state == [2]
    for _ in range(3):
        assert admit(breaker, 101.0) is None
    run(breaker, 105.0, GOOD)
    assert state == [1]
    run(breaker, 105.0, GOOD)
    assert state == [0]
    assert [moves.at("r", to) for to in ("open", "half_open", "closed")] == [[1], [1], [1]]
    assert registry.counter("outrigger_circuit_breaker_rejected_total", "", ("route",)).at("r") == [3]


def test_a_reload_keeps_the_circuit_and_those_under_way() -> None:
    registry = Registry()
    old = make(registry)
    run(old, 100.0, *[BAD] * 4)
    probe = admit(old, 105.0)
    assert probe is not None
    new = make(registry, mode="shadow")
    assert new.adopt(old)
    assert state_cell(registry) == [1]
    old.on_response(probe, GOOD, 106.0)
    run(new, 106.0, GOOD)
    assert state_of(new) is state_of(old) is State.CLOSED


def test_a_reload_with_other_settings_starts_anew() -> None:
    registry = Registry()
    old = make(registry)
    run(old, 100.0, *[BAD] * 4)
    new = make(registry, open_s=6)
    assert not new.adopt(old)
    assert state_of(new) is State.CLOSED
    assert state_cell(registry) == [0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"failure_ratio": 0}, "greater than 0"),
        ({"failure_ratio": 1.1}, "less than or equal to 1"),
        ({"failure_ratio": None}, "nothing would ever open it"),
        ({"max_open_s": 2}, "max_open_s 2 is below open_s 5"),
        ({"failure_statuses": ["5xx"]}, "write 503 or a range like 500-599"),
        ({"failure_statuses": ["599-500"]}, "the lower one first"),
        ({"failure_statuses": [99]}, "between 100 and 599"),
        ({"failure_statuses": ["500-"]}, "no status"),
        ({"failure_statuses": [-500]}, "no status"),
        ({"half_open": 0}, "greater than or equal to 1"),
        ({"threshold": 5}, "Extra inputs"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(QUICK | changes)


def test_every_failure_code_exists() -> None:
    assert set(BY_CODE) > FAILURE_CODES
