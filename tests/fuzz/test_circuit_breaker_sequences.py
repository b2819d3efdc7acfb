"""Any sequence of requests, outcomes and times: the breaker keeps its promises and finds its way back."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.policies.circuit_breaker import State
from agent.wire.head import RequestHead
from tests.unit.test_circuit_breaker import BAD, GONE, GOOD, REFUSED, SLOW, TIMED_OUT, admit, make, run, state_of

steps = st.lists(
    st.one_of(
        st.just(("ask",)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 4.9, 5.0, 29.0, 31.0])),
        st.tuples(st.just("end"), st.integers(0, 50), st.sampled_from([GOOD, BAD, GONE, REFUSED, SLOW, TIMED_OUT])),
    ),
    max_size=120,
)
shapes = st.fixed_dictionaries(
    {
        "half_open": st.integers(1, 3),
        "min_requests": st.integers(1, 4),
        "consecutive_failures": st.sampled_from([None, 1, 2]),
        "slow_call_s": st.sampled_from([None, 1.0]),
        "max_open_s": st.sampled_from([None, 20.0]),
    }
)


@settings(max_examples=300, deadline=None)
@given(shapes, steps)
def test_any_sequence(shape: dict[str, Any], sequence: list[tuple[Any, ...]]) -> None:
    """Whatever happens: no more probes than allowed, open refuses for its time, and it always finds its way back."""
    breaker, now = make(**shape), 100.0
    under_way: list[tuple[RequestHead, float, State]] = []
    opened_at, round_began = now, now
    for step in sequence:
        before = breaker.state
        if step[0] == "wait":
            now += step[1]
        elif step[0] == "ask":
            may = before is not State.OPEN or now - opened_at >= 5
            head = admit(breaker, now)
            assert before is not State.CLOSED or head is not None, "closed never refuses"
            assert may or head is None, "open refuses until its time has passed"
            if before is State.OPEN and breaker.state is State.HALF_OPEN:
                round_began = now
                under_way = [(one, at, State.CLOSED) for one, at, _ in under_way]
            if head is not None:
                under_way.append((head, now, breaker.state))
        elif under_way:
            one, _, _ = under_way.pop(step[1] % len(under_way))
            breaker.on_response(one, step[2], now)
        if breaker.state is State.OPEN and before is not State.OPEN:
            opened_at = now
        if breaker.state is State.HALF_OPEN:
            probes = [at for _, at, state in under_way if state is State.HALF_OPEN and round_began <= at > now - 30]
            assert len(probes) <= shape["half_open"]
    assert len(breaker._circuit._fresh) <= len(under_way), "nothing is remembered of requests that have ended"
    now += 60
    for _ in range(shape["half_open"]):
        run(breaker, now, GOOD)
    assert state_of(breaker) is State.CLOSED, "never wedged"
