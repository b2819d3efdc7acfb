"""The in-flight limit: slots, the line before them, and every way in which a request can end."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.policies.concurrency import CLAIM_S, Concurrency, Settings
from agent.policies.shadow import Shadow
from agent.ports.policy import Deny, Fact, Need
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from tests.kit.head import request_head


class Ended:
    status, origin, code, cancelled, upstream_s = 200, "app", "", False, 0.001


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is moved by hand."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Run everything that can run without time passing."""
        for _ in range(5):
            self.call_soon(self.stop)
            self.run_forever()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.settle()


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    manual = ManualLoop()
    yield manual
    manual.close()


class Traffic:
    """Requests as the data path drives them: ask, fetch the fact in a task, ask again."""

    def __init__(self, loop: ManualLoop, policy: Concurrency) -> None:
        self.loop = loop
        self.policy = policy
        self.admitted: list[RequestHead] = []
        self.denied: list[tuple[RequestHead, Deny]] = []
        self.waiting: dict[RequestHead, asyncio.Task[None]] = {}

    def arrive(self) -> RequestHead:
        head = request_head()
        verdict = self.policy.on_request(head, self.loop.time())
        if isinstance(verdict, Need):
            self.waiting[head] = self.loop.create_task(self._wait(head, verdict.fact))
        else:
            self._decided(head, verdict)
        return head

    async def _wait(self, head: RequestHead, fact: Fact) -> None:
        await fact.fetch()
        verdict = self.policy.on_request(head, self.loop.time())
        assert not isinstance(verdict, Need), "a request is queued once"
        del self.waiting[head]
        self._decided(head, verdict)

    def _decided(self, head: RequestHead, verdict: Any) -> None:
        if verdict is None:
            self.admitted.append(head)
        else:
            self.denied.append((head, verdict))

    def finish(self, head: RequestHead) -> None:
        self.admitted.remove(head)
        self.policy.on_response(head, Ended(), self.loop.time())

    def abandon(self, head: RequestHead) -> None:
        self.waiting.pop(head).cancel()

    def drop(self, fact: Fact) -> "asyncio.Task[None]":
        """Fetch, but never ask again."""

        async def only_fetch() -> None:
            await fact.fetch()

        return self.loop.create_task(only_fetch())

    @property
    def reasons(self) -> list[str]:
        return [deny.why for _, deny in self.denied]


def concurrency(registry: Registry | None = None, **values: Any) -> Concurrency:
    return Concurrency(Settings(**values), route="app", registry=registry or Registry())


def series(registry: Registry) -> dict[str, Any]:
    return {
        f"{family['name']}{values}": value
        for family in registry.snapshot()["families"]
        for values, value in family["series"]
        if family["name"].startswith("outrigger_concurrency")
    }


def test_admits_up_to_the_limit_then_queues_then_refuses(loop: ManualLoop) -> None:
    registry = Registry()
    traffic = Traffic(loop, concurrency(registry, max_in_flight=2, max_queue=1, retry_after_s=3))
    heads = [traffic.arrive() for _ in range(3)]
    loop.settle()
    late = traffic.arrive()
    assert traffic.admitted == heads[:2]
    assert list(traffic.waiting) == heads[2:]
    (refused, deny) = traffic.denied[0]
    assert refused is late
    assert deny.refusal.status == 503
    assert deny.refusal.code == "overloaded"
    assert b"\r\nretry-after: 3\r\n" in deny.refusal.render(extra=deny.extra)
    assert series(registry) == {
        "outrigger_concurrency_in_flight['app']": 2,
        "outrigger_concurrency_limit['app']": 2,
        "outrigger_concurrency_queued['app']": 1,
        "outrigger_concurrency_shed_total['app', 'queue_full']": 1,
        "outrigger_concurrency_shed_total['app', 'queue_timeout']": 0,
    }
    traffic.finish(heads[0])
    loop.settle()
    assert traffic.admitted == [heads[1], heads[2]]


@pytest.mark.parametrize(("lifo", "order"), [(False, [0, 1, 2]), (True, [2, 1, 0])])
def test_order_of_the_line(loop: ManualLoop, lifo: bool, order: list[int]) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1, lifo=lifo))
    first = traffic.arrive()
    queued = [traffic.arrive() for _ in range(3)]
    loop.settle()
    served = []
    traffic.finish(first)
    for _ in range(3):
        loop.settle()
        served.append(queued.index(traffic.admitted[0]))
        traffic.finish(traffic.admitted[0])
    assert served == order


def test_nobody_overtakes_between_grant_and_wake(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1))
    first, second = traffic.arrive(), traffic.arrive()
    loop.settle()
    traffic.finish(first)
    third = traffic.arrive()  # in the same callback, before the waiter's task has run
    assert third in traffic.waiting
    loop.settle()
    assert traffic.admitted == [second]


def test_waiting_is_bounded(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1, queue_timeout_s=0.5))
    traffic.arrive()
    waiting = traffic.arrive()
    loop.settle()
    loop.advance(0.49)
    assert waiting in traffic.waiting
    loop.advance(0.02)
    assert traffic.reasons == ["no slot within queue_timeout_s"]
    assert traffic.policy.gate.in_flight == 1
    assert not traffic.policy.gate.queue
    assert not traffic.policy.gate.turns


def test_a_grant_in_the_moment_of_the_timeout_is_kept(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1, queue_timeout_s=0.5))
    first, second = traffic.arrive(), traffic.arrive()
    loop.settle()
    loop.now += 0.5
    loop.call_soon(traffic.finish, first)
    loop.settle()
    assert traffic.admitted == [second] or traffic.reasons == ["no slot within queue_timeout_s"]
    assert traffic.policy.gate.in_flight == len(traffic.admitted)


def test_a_gone_client_frees_its_place(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1, max_queue=1))
    first, gone = traffic.arrive(), traffic.arrive()
    loop.settle()
    traffic.abandon(gone)
    loop.settle()
    queued = traffic.arrive()
    loop.settle()
    traffic.finish(first)
    loop.settle()
    assert traffic.admitted == [queued]


def test_a_gone_client_hands_on_the_slot_it_was_just_given(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1))
    first, gone, next_in_line = traffic.arrive(), traffic.arrive(), traffic.arrive()
    loop.settle()
    traffic.finish(first)  # the slot is `gone`'s now, but its task hasn't run
    traffic.abandon(gone)
    loop.settle()
    assert traffic.admitted == [next_in_line]
    traffic.finish(next_in_line)
    assert traffic.policy.gate.in_flight == 0


def test_a_waiter_that_is_being_cancelled_gets_no_slot(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1))
    first, gone, next_in_line = traffic.arrive(), traffic.arrive(), traffic.arrive()
    loop.settle()
    traffic.abandon(gone)
    traffic.finish(first)  # the cancellation hasn't reached the task yet
    loop.settle()
    assert traffic.admitted == [next_in_line]


@pytest.mark.parametrize("outcome", ["granted", "timed out"])
def test_a_dropped_head_leaks_nothing(loop: ManualLoop, outcome: str) -> None:
    policy = concurrency(max_in_flight=1, queue_timeout_s=0.5)
    traffic = Traffic(loop, policy)
    first = traffic.arrive()
    verdict = policy.on_request(request_head(), loop.time())
    assert isinstance(verdict, Need)
    fetch = traffic.drop(verdict.fact)
    loop.settle()
    if outcome == "granted":
        traffic.finish(first)
    loop.advance(0.6)
    assert fetch.done()
    assert len(policy.gate.turns) == 1
    loop.advance(CLAIM_S)
    assert not policy.gate.turns
    assert policy.gate.in_flight == len(traffic.admitted)


def test_a_fact_that_is_never_fetched_holds_nothing(loop: ManualLoop) -> None:
    policy = concurrency(max_in_flight=1, max_queue=1)
    traffic = Traffic(loop, policy)
    first = traffic.arrive()
    assert isinstance(policy.on_request(request_head(), loop.time()), Need)
    traffic.finish(first)
    assert policy.gate.in_flight == 0
    assert not policy.gate.queue


def test_the_queue_may_fill_between_the_verdict_and_the_wait(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1, max_queue=2))
    for _ in range(5):
        traffic.arrive()
    assert len(traffic.waiting) == 4
    loop.settle()
    assert len(traffic.waiting) == 2
    assert traffic.reasons == ["all slots and the queue are full"] * 2


def test_a_slot_that_is_free_by_then_is_taken_without_waiting(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1))
    first, second = traffic.arrive(), traffic.arrive()
    traffic.finish(first)
    loop.settle()
    assert traffic.admitted == [second]


def test_the_limit_may_change_at_any_time(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1))
    heads = [traffic.arrive() for _ in range(4)]
    loop.settle()
    traffic.policy.gate.limit = 3
    late = traffic.arrive()
    loop.settle()
    assert traffic.admitted == heads[:3]
    traffic.policy.gate.limit = 1
    for head in heads[:2]:
        traffic.finish(head)
    loop.settle()
    assert traffic.admitted == [heads[2]]
    traffic.finish(heads[2])
    loop.settle()
    assert traffic.admitted == [heads[3]]
    assert late in traffic.waiting
    traffic.abandon(late)
    loop.settle()


def test_a_reload_keeps_what_is_in_flight(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=2))
    first, second, queued = traffic.arrive(), traffic.arrive(), traffic.arrive()
    loop.settle()
    old, traffic.policy = traffic.policy, concurrency(max_in_flight=3, max_queue=0)
    assert traffic.policy.adopt(old)
    loop.settle()
    assert traffic.admitted == [first, second, queued]
    assert isinstance(traffic.policy.on_request(request_head(), loop.time()), Deny)
    old.on_response(first, Ended(), loop.time())
    assert traffic.policy.gate.in_flight == 2
    assert not traffic.policy.adopt(Shadow(old, route="r", registry=Registry()))


def test_shadow_never_queues(loop: ManualLoop) -> None:
    inner = concurrency(max_in_flight=1)
    shadow = Shadow(inner, route="app", registry=Registry())
    heads = [request_head() for _ in range(5)]
    assert [shadow.on_request(head, 0.0) for head in heads] == [None] * 5
    assert inner.gate.in_flight == 1
    for head in heads:
        shadow.on_response(head, Ended(), 0.0)
    assert inner.gate.in_flight == 0
    assert not inner.gate.queue


def test_explain_changes_nothing(loop: ManualLoop) -> None:
    traffic = Traffic(loop, concurrency(max_in_flight=1, max_queue=1))
    said = []
    for _ in range(3):
        said.append(traffic.policy.explain(request_head(), 0.0))
        traffic.policy.explain(request_head(), 0.0)
        traffic.arrive()
        loop.settle()
    assert said == [
        ("allow", "0 of 1 in flight, 0 of 1 queued"),
        ("need", "1 of 1 in flight, 0 of 1 queued: would wait for a slot, at most 1 s"),
        ("deny", "1 of 1 in flight, 1 of 1 queued: no room to wait"),
    ]
    traffic.finish(traffic.admitted[0])
    loop.settle()


def test_workers_share_the_limit() -> None:
    policy = Concurrency(Settings(max_in_flight=10), route="app", registry=Registry(), share=1 / 4)
    assert policy.gate.limit == 2
    with pytest.raises(ValueError, match="2 can't be shared by 4 workers"):
        Concurrency(Settings(max_in_flight=2), route="app", registry=Registry(), share=1 / 4)


class AnyInterleaving(RuleBasedStateMachine):
    """Whatever happens in whatever order: never above the limit, no slot lost, nobody forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = ManualLoop()
        self.policy = concurrency(max_in_flight=2, max_queue=3, queue_timeout_s=1.0)
        self.traffic = Traffic(self.loop, self.policy)

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            self.loop.close()

    def everything_ends(self) -> None:
        """Whoever is admitted finishes: then everyone is served or refused, and every slot is given back."""
        gate = self.policy.gate
        for _ in range(50):
            self.loop.settle()
            for head in list(self.traffic.admitted):
                self.traffic.finish(head)
            self.loop.advance(CLAIM_S + 0.1)  # slots of those who never ask again
            if not self.traffic.waiting and not gate.in_flight:
                break
        self.loop.advance(CLAIM_S + 0.1)
        assert not self.traffic.waiting, "starved"
        assert (gate.in_flight, len(gate.queue), len(gate.turns)) == (0, 0, 0)

    @rule()
    def arrive(self) -> None:
        self.traffic.arrive()

    @rule()
    def settle(self) -> None:
        self.loop.settle()

    @rule()
    def run_one_round(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @rule(seconds=st.sampled_from([0.3, 0.7, 1.0, 1.5]))
    def time_passes_unseen(self, seconds: float) -> None:
        self.loop.now += seconds

    @precondition(lambda self: self.traffic.admitted)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.traffic.finish(data.draw(st.sampled_from(self.traffic.admitted)))

    @precondition(lambda self: self.traffic.waiting)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        self.traffic.abandon(data.draw(st.sampled_from(list(self.traffic.waiting))))

    @rule()
    def arrive_and_never_ask_again(self) -> None:
        head = request_head()
        verdict = self.policy.on_request(head, self.loop.time())
        if isinstance(verdict, Need):
            self.traffic.drop(verdict.fact)
        else:
            self.traffic._decided(head, verdict)

    @invariant()
    def never_above_the_limit(self) -> None:
        assert len(self.traffic.admitted) <= self.policy.gate.in_flight <= self.policy.gate.limit

    @invariant()
    def queue_is_bounded(self) -> None:
        assert len(self.policy.gate.queue) <= self.policy.gate.max_queue

    @invariant()
    def nobody_waits_while_a_slot_is_free(self) -> None:
        gate = self.policy.gate
        alive = [turn for turn in gate.queue if turn.wake is not None and not turn.wake.done()]
        assert not alive or gate.in_flight == gate.limit


AnyInterleaving.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyInterleaving = AnyInterleaving.TestCase
