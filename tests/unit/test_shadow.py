"""Shadow mode: the inner policy decides and is recorded, and nobody outside can tell."""

from typing import Any

import pytest

from agent.core.identity import Identity
from agent.policies.shadow import Shadow
from agent.ports.policy import Deny, Fact, Need, Outcome, Policy, Verdict
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from agent.wire.problem import EmptyAnswer, Refusal
from tests.kit.head import request_head

CALLER = Identity("u", "main", {})


class Keys:
    async def fetch(self) -> None: ...


class Inner(Policy):
    """Answers what it was told to, and writes on everything that a policy may write on."""

    name = "inner"
    observes = False

    def __init__(self, verdict: Verdict = None) -> None:
        self.verdict = verdict
        self.heard: list[RequestHead] = []
        self.adopted: list[Policy] = []

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        head.request_extra += b"x-user: u\r\n"
        head.response_extra += b"ratelimit: 0\r\n"
        head.identity = CALLER
        return self.verdict

    def on_response(self, head: RequestHead, outcome: Outcome, now: float) -> None:
        self.heard.append(head)

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        return {Deny: "deny", Need: "need"}.get(type(self.verdict), "allow"), "because"

    def adopt(self, old: Policy) -> bool:
        self.adopted.append(old)
        return True


class Observing(Inner):
    name = "observing"
    observes = True


class End:
    status, origin, code, cancelled, upstream_s = 200, "app", "", False, 0.1


def wrap(inner: Policy, registry: Registry | None = None, **more: Any) -> Shadow:
    return Shadow(inner, route="r", registry=registry or Registry(), **more)


def counts(registry: Registry, name: str = "inner") -> tuple[int, int]:
    refused = registry.counter("outrigger_policy_shadow_denied_total", "", ("policy", "route", "code"))
    undecided = registry.counter("outrigger_policy_shadow_undecided_total", "", ("policy", "route"))
    return refused.at(name, "r", "rate_limited")[0], undecided.at(name, "r")[0]


DENY = Deny(Refusal("rate_limited"), extra=b"retry-after: 1\r\n", why="used up")


@pytest.mark.parametrize(
    ("verdict", "shadow", "counted"),
    [(None, "", (0, 0)), (DENY, "rate_limited", (1, 0)), (Need(Keys()), "", (0, 1))],
)
def test_every_request_passes_and_is_recorded(verdict: Verdict, shadow: str, counted: tuple[int, int]) -> None:
    registry, head = Registry(), request_head()
    head.response_extra = b"vary: origin\r\n"
    assert wrap(Inner(verdict), registry).on_request(head, 0.0) is None
    assert head.shadow == shadow
    assert counts(registry) == counted
    assert head.response_extra == b"vary: origin\r\n", "the client can't tell"


def test_the_first_refusal_is_the_one_that_counts() -> None:
    registry, head = Registry(), request_head()
    wrap(Inner(Deny(Refusal("token_expired"), why="its time has passed")), registry).on_request(head, 0.0)
    wrap(Inner(DENY), registry).on_request(head, 0.0)
    assert (head.shadow, head.shadow_why) == ("token_expired", "its time has passed")
    assert counts(registry) == (0, 0), "enforced, the second would not even be asked"


def test_only_what_an_allowing_policy_adds_to_the_request_stays() -> None:
    for verdict, extra, identity in ((None, b"x-user: u\r\n", CALLER), (DENY, b"", None), (Need(Keys()), b"", None)):
        head = request_head()
        wrap(Inner(verdict)).on_request(head, 0.0)
        assert (head.request_extra, head.identity) == (extra, identity)


def test_answers_that_are_no_refusals_are_not_given_nor_counted() -> None:
    registry, head = Registry(), request_head(b"OPTIONS")
    assert wrap(Inner(Deny(EmptyAnswer("cors_preflight", 204))), registry).on_request(head, 0.0) is None
    assert head.shadow == ""
    assert "cors_preflight" not in str(
        registry.counter("outrigger_policy_shadow_denied_total", "", ("policy", "route", "code")).freeze()
    )


def test_shared_facts_are_fetched_in_the_background() -> None:
    fetched: list[Fact] = []
    keys = Keys()
    wrap(Inner(Need(keys)), prefetch=fetched.append).on_request(request_head(), 0.0)
    assert fetched == [keys]


def test_a_place_in_a_queue_is_not_taken() -> None:
    fetched: list[Fact] = []
    wrap(Observing(Need(Keys())), prefetch=fetched.append).on_request(request_head(), 0.0)
    assert fetched == []


@pytest.mark.parametrize(("verdict", "hears"), [(None, True), (DENY, False), (Need(Keys()), False)])
def test_only_allowed_requests_are_reported(verdict: Verdict, hears: bool) -> None:
    inner = Observing(verdict)
    shadow, head = wrap(inner), request_head()
    shadow.on_request(head, 0.0)
    shadow.on_response(head, End(), 1.0)
    assert inner.heard == ([head] if hears else [])
    assert not shadow._silenced, "nothing is remembered of a request that has ended"


def test_looks_like_the_inner_policy() -> None:
    assert (wrap(Inner()).name, wrap(Inner()).observes) == ("inner", False)
    assert (wrap(Observing()).name, wrap(Observing()).observes) == ("observing", True)


def test_nothing_is_taken_from_responses() -> None:
    assert wrap(Inner()).response_drop == frozenset()


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (None, "in shadow mode: would allow: because"),
        (DENY, "in shadow mode: would deny: because"),
        (Need(Keys()), "in shadow mode: would wait: because"),
    ],
)
def test_explain(verdict: Verdict, sentence: str) -> None:
    assert wrap(Inner(verdict)).explain(request_head(), 0.0) == ("allow", sentence)


def test_state_is_handed_on_across_a_change_of_mode() -> None:
    before, after = Inner(), Inner()
    assert wrap(after).adopt(before)
    assert wrap(after).adopt(wrap(before))
    assert after.adopted == [before, before]


def test_a_policy_without_state_has_nothing_to_hand_on() -> None:
    class Stateless(Inner):
        def adopt(self, old: Policy) -> bool:
            return Policy.adopt(self, old)

    assert not wrap(Stateless()).adopt(Stateless())
