"""Deadlines fire once, never early, at most a tick late, and nothing dead is kept."""

import gc
import weakref
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.timer_wheel import TimerWheel

TICK_S = 0.02


class Clocked:
    """Something with a deadline that writes down when it fired."""

    __slots__ = ("__weakref__", "deadline", "error", "fired", "rearm_s", "wheel_at")

    def __init__(self, deadline: float = inf, *, rearm_s: float = 0.0, error: Exception | None = None) -> None:
        self.deadline, self.wheel_at = deadline, inf
        self.fired: list[float] = []
        self.rearm_s, self.error = rearm_s, error

    def on_deadline(self, now: float) -> None:
        self.fired.append(now)
        self.deadline = now + self.rearm_s if self.rearm_s else inf
        if self.error:
            raise self.error


def touch(wheel: TimerWheel, obj: Clocked, deadline: float) -> None:
    obj.deadline = deadline
    if deadline < obj.wheel_at:
        wheel.watch(obj)


def test_an_idle_wheel_never_ticks() -> None:
    wheel = TimerWheel()
    assert wheel.next_at() is None
    wheel.advance(5.0)
    obj = Clocked()
    touch(wheel, obj, 6.0)
    wheel.advance(7.0)
    assert obj.fired == [7.0]
    assert wheel.next_at() is None
    assert len(wheel) == 0


@pytest.mark.parametrize("deadline", [0.001, 0.02, 0.5, 1.2799, 1.28, 1.3, 60.0, 81.92, 3600.5, 100_000.0])
@pytest.mark.parametrize("start", [0.0, 0.013, 12_345.678])
def test_fires_within_one_tick_when_woken_as_told(deadline: float, start: float) -> None:
    wheel = TimerWheel(TICK_S, now=start)
    obj = Clocked()
    touch(wheel, obj, start + deadline)
    looks = 0
    while not obj.fired:
        at = wheel.next_at()
        assert at is not None
        wheel.advance(at)
        looks += 1
    assert start + deadline <= obj.fired[0] <= start + deadline + TICK_S + 1e-9
    assert looks <= 4


def test_moving_later_costs_no_call() -> None:
    wheel = TimerWheel(TICK_S)
    obj = Clocked()
    touch(wheel, obj, 0.1)
    obj.deadline = 0.5
    wheel.advance(0.2)
    assert obj.fired == []
    wheel.advance(0.52)
    assert obj.fired == [0.52]


def test_moving_earlier_is_noticed_and_leaves_nothing_behind() -> None:
    wheel = TimerWheel(TICK_S)
    obj = Clocked()
    for round_ in range(100):
        touch(wheel, obj, 60.0 + round_)
        touch(wheel, obj, 0.1)
        assert len(wheel) == 1
    wheel.advance(0.2)
    assert obj.fired == [0.2]
    assert len(wheel) == 0


def test_within_one_tick_no_second_filing_is_needed() -> None:
    wheel = TimerWheel(TICK_S)
    obj = Clocked()
    touch(wheel, obj, 0.115)
    assert obj.wheel_at <= 0.105
    obj.deadline = 0.105
    wheel.advance(0.12)
    assert obj.fired == [0.12]


def test_infinite_deadlines_drop_out() -> None:
    wheel = TimerWheel(TICK_S)
    obj = Clocked()
    touch(wheel, obj, 0.1)
    obj.deadline = inf
    wheel.advance(1.0)
    assert (obj.fired, obj.wheel_at, len(wheel), wheel.next_at()) == ([], inf, 0, None)


def test_a_deadline_in_the_past_fires_at_the_next_tick() -> None:
    wheel = TimerWheel(TICK_S)
    wheel.advance(10.0)
    obj = Clocked()
    touch(wheel, obj, 3.0)
    at = wheel.next_at()
    assert at is not None
    assert at <= 10.04
    wheel.advance(at)
    assert obj.fired == [at]


def test_a_callback_that_sets_a_past_deadline_does_not_spin() -> None:
    wheel = TimerWheel(TICK_S)

    class Stubborn(Clocked):
        __slots__ = ()

        def on_deadline(self, now: float) -> None:
            super().on_deadline(now)
            touch(wheel, self, now - 1.0)

    obj = Stubborn()
    touch(wheel, obj, 0.1)
    wheel.advance(1.0)
    assert obj.fired == [1.0]
    wheel.advance(1.0)
    assert obj.fired == [1.0]
    wheel.advance(1.05)
    assert obj.fired == [1.0, 1.05]


def test_one_error_does_not_keep_others_from_firing() -> None:
    wheel = TimerWheel(TICK_S)
    objs = [Clocked(error=ValueError(str(i)) if i % 2 else None) for i in range(6)]
    for obj in objs:
        touch(wheel, obj, 0.1)
    with pytest.raises(ExceptionGroup) as caught:
        wheel.advance(1.0)
    assert len(caught.value.exceptions) == 3
    assert all(obj.fired == [1.0] for obj in objs)


def test_errors_go_to_the_callable() -> None:
    errors: list[Exception] = []
    wheel = TimerWheel(TICK_S, on_error=errors.append)
    obj = Clocked(error=ValueError("x"))
    touch(wheel, obj, 0.1)
    wheel.advance(1.0)
    assert [str(error) for error in errors] == ["x"]


def test_forgotten_objects_are_released_at_once() -> None:
    wheel = TimerWheel(TICK_S)
    obj = Clocked()
    touch(wheel, obj, 60.0)
    touch(wheel, obj, 1.0)
    wheel.forget(obj)
    wheel.forget(obj)
    ref = weakref.ref(obj)
    del obj
    gc.collect()
    assert ref() is None
    assert wheel.next_at() is None


def test_a_callback_may_forget_and_move_its_neighbours() -> None:
    wheel = TimerWheel(TICK_S)
    gone, moved = Clocked(), Clocked()

    class First(Clocked):
        __slots__ = ()

        def on_deadline(self, now: float) -> None:
            wheel.forget(gone)
            moved.deadline = 5.0
            wheel.watch(moved)

    first = First()
    for obj in (first, gone, moved):
        touch(wheel, obj, 0.1)
    wheel.advance(1.0)
    assert (gone.fired, moved.fired, len(wheel)) == ([], [], 1)
    wheel.advance(5.1)
    assert (gone.fired, moved.fired) == ([], [5.1])


def test_many_short_lives_leave_few_slots() -> None:
    """Five thousand connections a second with a far time-out, each closed at once: no growth."""
    wheel = TimerWheel(TICK_S)
    for i in range(50_000):
        now = i * 0.0002
        obj = Clocked()
        touch(wheel, obj, now + 60.0)
        touch(wheel, obj, now + 10.0)
        wheel.forget(obj)
        if i % 100 == 0:
            wheel.advance(now)
    assert len(wheel) == 0
    assert len(wheel._slots) == len(wheel._ticks) < 300


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 4), st.floats(-1.0, 200.0)),
        st.tuples(st.just("clear"), st.integers(0, 4), st.just(0.0)),
        st.tuples(st.just("forget"), st.integers(0, 4), st.just(0.0)),
        st.tuples(st.just("run"), st.just(0), st.floats(0.0, 120.0)),
        st.tuples(st.just("wake"), st.just(0), st.just(0.0)),
    ),
    max_size=60,
)


@given(STEPS, st.floats(0.0, 1e6), st.sampled_from([0.02, 0.1, 1 / 3]))
def test_like_a_naive_model(steps: list[tuple[str, int, float]], start: float, tick_s: float) -> None:
    """Never early; whatever is overdue by more than a tick has fired; each set deadline fires once at most."""
    now = start
    wheel = TimerWheel(tick_s, now=now)
    objs = [Clocked() for _ in range(5)]
    for what, index, value in steps:
        obj = objs[index]
        fired_before = [len(each.fired) for each in objs]
        due = [each.deadline for each in objs]
        if what == "set":
            touch(wheel, obj, now + value)
        elif what == "clear":
            obj.deadline = inf
        elif what == "forget":
            wheel.forget(obj)
            obj.deadline = inf
        else:
            now = max(now, wheel.next_at() or now) if what == "wake" else now + value
            wheel.advance(now)
            for each, before, deadline in zip(objs, fired_before, due, strict=True):
                fired = len(each.fired) - before
                assert fired == 0 or (fired == 1 and deadline <= now)
                # a past deadline is filed at the first tick after the last advance, so at most two ticks late
                assert fired == 1 or deadline > now - 2 * tick_s - 1e-6 or each.wheel_at != inf
        for each in objs:
            assert each.deadline == inf or each.wheel_at <= max(each.deadline, now + tick_s) + 1e-6
        at = wheel.next_at()
        watched = [each.wheel_at for each in objs if each.wheel_at != inf]
        assert (at is None) == (not watched)
        assert at is None or abs(at - (min(watched) + tick_s)) < 1e-6
    wheel.advance(now + 1000.0)
    assert all(obj.deadline == inf for obj in objs)
    assert len(wheel) == 0
