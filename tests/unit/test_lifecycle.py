"""The phase machine: every row of its table, and the sum of its waits."""

from itertools import product

import pytest
from pydantic import ValidationError

from agent.runtime.lifecycle import FOREVER, Event, Lifecycle, Phase
from agent.runtime.settings import LifecycleSettings

E, P = Event, Phase
Step = tuple[float, Event, Phase]

SETTINGS = LifecycleSettings(grace_s=5, drain_s=30)

STORIES: dict[str, list[Step]] = {
    "SIGTERM, all well": [
        (0, E.STARTED, P.RUNNING),
        (100, E.TERMINATE, P.DEREGISTERING),
        (104.9, E.TICK, P.DEREGISTERING),
        (105, E.TICK, P.DRAINING),
        (106, E.IDLE, P.APP_GRACE),
        (107, E.APP_GONE, P.STOPPED),
    ],
    "the deadline cuts requests": [
        (0, E.STARTED, P.RUNNING),
        (100, E.TERMINATE, P.DEREGISTERING),
        (105, E.TICK, P.DRAINING),
        (129.9, E.TICK, P.DRAINING),
        (130, E.TICK, P.STOPPED),
    ],
    "the deadline ends the application's grace": [
        (0, E.STARTED, P.RUNNING),
        (100, E.TERMINATE, P.DEREGISTERING),
        (105, E.TICK, P.DRAINING),
        (106, E.IDLE, P.APP_GRACE),
        (129, E.TICK, P.APP_GRACE),
        (130, E.TICK, P.STOPPED),
    ],
    "Ctrl-C has no grace": [
        (0, E.STARTED, P.RUNNING),
        (1, E.INTERRUPT, P.DRAINING),
        (1, E.IDLE, P.APP_GRACE),
        (2, E.INTERRUPT, P.STOPPED),
    ],
    "a second signal hastens each step": [
        (0, E.STARTED, P.RUNNING),
        (1, E.TERMINATE, P.DEREGISTERING),
        (2, E.TERMINATE, P.DRAINING),
        (3, E.INTERRUPT, P.STOPPED),
    ],
    "held, and taken back": [
        (0, E.STARTED, P.RUNNING),
        (1, E.HOLD, P.DEREGISTERING),
        (1000, E.TICK, P.DEREGISTERING),
        (1001, E.RESUME, P.RUNNING),
    ],
    "held for some of the grace": [
        (0, E.STARTED, P.RUNNING),
        (1, E.HOLD, P.DEREGISTERING),
        (4, E.TERMINATE, P.DEREGISTERING),
        (5.9, E.TICK, P.DEREGISTERING),
        (6, E.TICK, P.DRAINING),
    ],
    "held longer than the grace": [
        (0, E.STARTED, P.RUNNING),
        (1, E.HOLD, P.DEREGISTERING),
        (100, E.TERMINATE, P.DRAINING),
    ],
    "no way back after a signal": [
        (0, E.STARTED, P.RUNNING),
        (1, E.TERMINATE, P.DEREGISTERING),
        (2, E.RESUME, P.DEREGISTERING),
        (3, E.HOLD, P.DEREGISTERING),
        (6, E.TICK, P.DRAINING),
        (7, E.RESUME, P.DRAINING),
    ],
    "a signal while starting": [
        (0, E.TERMINATE, P.DRAINING),
        (0, E.STARTED, P.DRAINING),
        (0, E.IDLE, P.APP_GRACE),
    ],
    "news out of season": [
        (0, E.IDLE, P.STARTING),
        (0, E.APP_GONE, P.STARTING),
        (0, E.HOLD, P.STARTING),
        (0, E.STARTED, P.RUNNING),
        (0, E.STARTED, P.RUNNING),
        (0, E.IDLE, P.RUNNING),
        (0, E.RESUME, P.RUNNING),
        (0, E.TICK, P.RUNNING),
    ],
}  # fmt: skip


def tell(machine: Lifecycle, steps: list[Step]) -> None:
    for now, event, phase in steps:
        before = machine.phase
        assert machine.on(event, now) is (phase is not before), (now, event)
        assert machine.phase is phase, (now, event)


@pytest.mark.parametrize("steps", STORIES.values(), ids=STORIES.keys())
def test_story(steps: list[Step]) -> None:
    tell(Lifecycle(SETTINGS, now=0, keep_local_api=True), steps)


@pytest.mark.parametrize(("story", "cut"), [("the deadline cuts requests", True), ("SIGTERM, all well", False), ("a second signal hastens each step", True)])  # fmt: skip  # noqa: E501
def test_cut_is_told(story: str, cut: bool) -> None:
    machine = Lifecycle(SETTINGS, now=0, keep_local_api=True)
    tell(machine, STORIES[story])
    assert machine.cut is cut


@pytest.mark.parametrize(
    ("grace", "keep", "phase", "wake_at"),
    [
        (None, True, P.APP_GRACE, 31),
        (3, True, P.APP_GRACE, 5),
        (300, True, P.APP_GRACE, 31),
        (0, True, P.STOPPED, FOREVER),
        (None, False, P.STOPPED, FOREVER),
    ],
)
def test_how_long_the_local_api_stays(grace: float | None, keep: bool, phase: Phase, wake_at: float) -> None:
    machine = Lifecycle(LifecycleSettings(local_api_grace_s=grace), now=0, keep_local_api=keep)
    tell(machine, [(0, E.STARTED, P.RUNNING), (1, E.INTERRUPT, P.DRAINING), (2, E.IDLE, phase)])
    assert machine.wake_at == wake_at
    assert machine.cut is False


def test_the_machine_asks_for_its_ticks_and_always_ends() -> None:
    """Whatever news come in any order after a signal: following `wake_at` alone ends in time."""
    for events in product(Event, repeat=3):
        machine = Lifecycle(SETTINGS, now=0, keep_local_api=True)
        machine.on(E.STARTED, 0)
        machine.on(E.TERMINATE, 1)
        now = 1.0
        for event in events:
            now += 1
            machine.on(event, now)
        while machine.phase is not P.STOPPED:
            assert now <= machine.wake_at <= 31
            now = machine.wake_at
            machine.on(E.TICK, now)
        assert now <= 31


def test_nothing_leaves_stopped() -> None:
    machine = Lifecycle(SETTINGS, now=0, keep_local_api=False)
    tell(machine, [(0, E.TERMINATE, P.DRAINING), (0, E.IDLE, P.STOPPED)])
    for event in Event:
        assert machine.on(event, 1) is False
    assert machine.wake_at == FOREVER


@pytest.mark.parametrize("values", [{"grace_s": 30}, {"drain_s": 4}, {"interrupt_grace_s": 31}, {"grace_s": -1}, {"cut_exit_code": 126}])  # fmt: skip  # noqa: E501
def test_settings_that_make_no_sense(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        LifecycleSettings.model_validate(values)
