"""The rate limit policy: who is charged, what clients are told, and what survives a reload."""

import random
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.core.identity import Identity
from agent.core.limits.decision import Decision
from agent.core.limits.local_limit import LocalLimit, algorithm_of
from agent.policies.rate_limit import RateLimit, Settings
from agent.policies.shadow import Shadow
from agent.ports.policy import Deny, Need
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from tests.kit.head import request_head

ALGORITHMS = ["token_bucket", "fixed_window", "sliding_window", "gcra"]


def limit(name: str = "per-user", amount: int = 3, **values: Any) -> Settings:
    return Settings(**{"name": name, "limit": amount, "per_s": 60, **values})


def policy(*limits: Settings, registry: Registry | None = None, **values: Any) -> RateLimit:
    return RateLimit(limits or [limit()], route="orders", registry=registry or Registry(), **values)


def by(subject: str = "ann", fields: dict[bytes, bytes] | None = None) -> RequestHead:
    return request_head(identity=Identity(subject, "main", {}), fields=fields)


def lines(raw: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in raw.decode().split("\r\n") if line)


def told(judge: RateLimit, head: RequestHead, now: float) -> tuple[bool, dict[str, str]]:
    """Whether the request was allowed, and the header lines of its response."""
    verdict = judge.on_request(head, now)
    assert not isinstance(verdict, Need)
    return verdict is None, lines(head.response_extra if verdict is None else verdict.extra)


def series(registry: Registry) -> dict[str, Any]:
    return {
        f"{family['name'].removeprefix('outrigger_rate_limit_')} {' '.join(values)}": value
        for family in registry.snapshot()["families"]
        for values, value in family["series"]
        if family["name"].startswith("outrigger_rate_limit")
    }


# --- what clients are told


def test_headers_of_an_allowed_and_a_refused_request() -> None:
    judge = policy(limit(amount=2, algorithm="fixed_window"))
    assert told(judge, by(), 100.0) == (
        True,
        {
            "x-ratelimit-limit": "2",
            "x-ratelimit-remaining": "1",
            "ratelimit-policy": '"per-user";q=2;w=60',
            "ratelimit": '"per-user";r=1;t=60',
            "x-ratelimit-reset": "60",
        },
    )
    assert told(judge, by(), 110.5)[1]["ratelimit"] == '"per-user";r=0;t=50'
    allowed, shown = told(judge, by(), 120.2)
    assert not allowed
    assert shown["ratelimit"] == '"per-user";r=0;t=40'
    assert shown["retry-after"] == "40"
    assert shown["x-ratelimit-remaining"] == "0"


def test_the_refusal_is_a_429_problem_that_names_the_limit() -> None:
    judge = policy(limit(amount=1))
    judge.on_request(by(), 0.0)
    head = by()
    verdict = judge.on_request(head, 0.0)
    assert isinstance(verdict, Deny)
    assert (verdict.refusal.status, verdict.refusal.code) == (429, "rate_limited")
    assert b"The limit per-user allows 1 per 60 s." in verdict.refusal.body
    assert "per-user" in verdict.why
    assert head.response_extra == b"", "told once, with the refusal"


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("draft", {"ratelimit", "ratelimit-policy"}),
        ("legacy", {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}),
        ("none", set()),
    ],
)
def test_which_headers_are_sent(mode: str, names: set[str]) -> None:
    judge = policy(limit(amount=1, headers=mode))
    assert set(told(judge, by(), 0.0)[1]) == names
    assert set(told(judge, by(), 0.0)[1]) == names | {"retry-after"}, "a 429 always says when to come back"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(gaps=st.lists(st.integers(0, 2000), min_size=1, max_size=30))
@example(gaps=[0, 150, 350])
def test_retry_after_is_a_whole_second_that_is_kept(algorithm: str, gaps: list[int]) -> None:
    judge, now = policy(limit(amount=2, per_s=1.5, algorithm=algorithm)), 1e6
    for gap in gaps:
        now += gap / 1000
        allowed, shown = told(judge, by(), now)
        if not allowed:
            wait_s = int(shown["retry-after"])
            assert wait_s >= 1
            assert f";t={wait_s}" in shown["ratelimit"], "the draft wants both to name the same moment"
            assert judge.explain(by(), now + wait_s)[0] == "allow"


@pytest.mark.parametrize(
    ("values", "item"),
    [
        ({}, '"per-user";q=3;w=60'),
        ({"per_s": 0.5}, '"per-user";q=3'),
        ({"algorithm": "gcra", "burst": 10}, '"per-user";q=3;w=60;outrigger-burst=10'),
    ],
)
def test_policy_items_are_structured_fields(values: dict[str, Any], item: str) -> None:
    shown = told(policy(limit(**values)), by(), 0.0)[1]
    assert shown["ratelimit-policy"] == item
    assert re.fullmatch(r'"[!#-\[\]-~]+"(;[a-z*][a-z0-9_.*-]*=\d+)*', item)
    assert int(shown["x-ratelimit-remaining"]) < int(shown["x-ratelimit-limit"])


def test_header_pieces_stay_bounded_and_right_beyond_the_cache() -> None:
    judge = policy(limit(amount=3000))
    shown = [int(told(judge, by(), 0.0)[1]["x-ratelimit-remaining"]) for _ in range(3000)]
    assert shown == list(range(2999, -1, -1))
    assert len(judge._heads) <= 512


# --- several limits


def test_a_request_that_one_limit_refuses_is_charged_to_none() -> None:
    judge = policy(limit("wide", 10), limit("narrow", 1))
    assert told(judge, by(), 0.0)[0]
    for _ in range(20):
        assert not told(judge, by(), 0.0)[0]
    allowed, shown = told(judge, by(), 66.1)
    assert allowed
    assert shown["ratelimit"] == '"narrow";r=0;t=66'
    wide = judge._rules[0].limiter.peek(judge._rules[0].key_of(by()), 0, 66.1)
    assert isinstance(wide, tuple)
    assert wide[1] == 9, "two were admitted; the first of them is forgotten"


def test_the_order_of_limits_does_not_matter_for_charging() -> None:
    for order in ([limit("narrow", 1), limit("wide", 10)], [limit("wide", 10), limit("narrow", 1)]):
        judge = policy(*order)
        for _ in range(5):
            judge.on_request(by(), 0.0)
        remaining = {rule.settings.name: rule.limiter.peek(rule.key_of(by()), 0, 0.0) for rule in judge._rules}
        assert {name: answer[1] for name, answer in remaining.items() if isinstance(answer, tuple)} == {
            "narrow": 0,
            "wide": 9,
        }


def test_the_strictest_is_shown_and_all_are_listed() -> None:
    judge = policy(limit("a", 10), limit("b", 4, key=("ip",)), limit("c", 100))
    shown = told(judge, by(), 0.0)[1]
    assert shown["ratelimit"].startswith('"b";r=3;')
    assert shown["ratelimit-policy"] == '"a";q=10;w=60, "b";q=4;w=60, "c";q=100;w=60'


def test_of_several_refusals_the_longest_wait_is_told() -> None:
    judge = policy(
        limit("short", 1, per_s=2, algorithm="fixed_window"), limit("long", 1, per_s=30, algorithm="fixed_window")
    )
    assert told(judge, by(), 0.0)[0]
    assert told(judge, by(), 0.0)[1]["retry-after"] == "30"


# --- keys and costs


def test_keys_are_counted_apart() -> None:
    judge = policy(limit(amount=1))
    assert [told(judge, by(name), 0.0)[0] for name in ("ann", "bob", "ann")] == [True, True, False]


def test_without_a_subject_the_address_is_charged() -> None:
    judge = policy(limit(amount=1))
    heads = [request_head(client_ip=ip) for ip in ("10.0.0.1", "10.0.0.2", "10.0.0.1")]
    assert [told(judge, head, 0.0)[0] for head in heads] == [True, True, False]


@pytest.mark.parametrize(
    ("sent", "left"),
    [(b"4", 6), (b"1", 9), (b"", 9), (b"0", 9), (b"-5", 9), (b"4.5", 9), (b"\xb2", 9), (b"0004", 6)],
)
def test_cost_from_a_header(sent: bytes, left: int) -> None:
    judge = policy(limit(amount=10, cost="header:X-Cost"))
    assert told(judge, by(fields={b"x-cost": sent}), 0.0)[1]["x-ratelimit-remaining"] == str(left)


@pytest.mark.parametrize("sent", [b"11", b"9" * 30, b"9" * 8000])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_cost_beyond_the_capacity_is_refused_and_no_wait_is_promised(sent: bytes, algorithm: str) -> None:
    judge = policy(limit(amount=10, cost="header:x-cost", algorithm=algorithm))
    allowed, shown = told(judge, by(fields={b"x-cost": sent}), 0.0)
    assert not allowed
    assert "retry-after" not in shown
    assert shown["x-ratelimit-remaining"] == "10"


def test_a_fixed_cost() -> None:
    judge = policy(limit(amount=5, cost=2))
    assert [told(judge, by(), 0.0)[0] for _ in range(3)] == [True, True, False]


# --- workers, reload, memory


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_workers_never_admit_more_than_the_limit_together(algorithm: str) -> None:
    workers = [policy(limit(amount=10, algorithm=algorithm), share=1 / 3) for _ in range(3)]
    source = random.Random(7)
    assert sum(told(source.choice(workers), by(), 0.0)[0] for _ in range(300)) == 9
    assert told(workers[0], by(), 0.0)[1]["ratelimit-policy"] == '"per-user";q=10;w=60'


@pytest.mark.parametrize(
    ("values", "says"), [({"amount": 2}, "2 can't be shared"), ({"amount": 9, "cost": 5}, "costs 5")]
)
def test_a_limit_too_small_to_be_shared_is_said(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        policy(limit(**values), share=1 / 3)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({}, True),
        ({"max_keys": 5, "headers": "none", "cost": 2}, True),
        ({"amount": 4}, False),
        ({"per_s": 61}, False),
        ({"algorithm": "fixed_window"}, False),
        ({"key": ("ip",)}, False),
        ({"name": "other"}, False),
    ],
)
def test_counts_survive_a_reload_where_the_definition_is_unchanged(values: dict[str, Any], kept: bool) -> None:
    registry = Registry()
    old = policy(registry=registry)
    for _ in range(3):
        old.on_request(by(), 0.0)
    new = policy(limit(**values), registry=registry)
    assert new.adopt(old) is kept
    assert told(new, by(), 0.0)[0] is not kept
    if kept:
        assert series(registry)["keys per-user orders"] == 1
        assert new.on_request(by("bob"), 0.0) is None
        assert series(registry)["keys per-user orders"] == 2


def test_old_and_new_chain_count_together_after_a_reload() -> None:
    old = policy()
    old.on_request(by(), 0.0)
    new = policy()
    new.adopt(old)
    assert [told(judge, by(), 0.0)[0] for judge in (old, new, old, new)] == [True, True, False, False]


def test_nothing_is_adopted_from_another_share_or_another_policy() -> None:
    old = policy(share=1 / 3)
    assert not policy().adopt(old)
    assert not policy().adopt(Shadow(policy(), route="r", registry=Registry()))


def test_among_several_only_the_unchanged_is_adopted() -> None:
    old = policy(limit("a", 1), limit("b", 1))
    old.on_request(by(), 0.0)
    new = policy(limit("a", 2), limit("b", 1))
    assert not new.adopt(old)  # there may be more to find elsewhere
    assert told(new, by(), 0.0)[1]["ratelimit"].startswith('"b";r=0')


def test_a_smaller_table_after_a_reload_is_bounded_at_once() -> None:
    old = policy(limit(max_keys=100))
    for number in range(100):
        old.on_request(by(str(number)), 0.0)
    registry = Registry()
    new = policy(limit(max_keys=10), registry=registry)
    new.adopt(old)
    assert series(registry)["keys per-user orders"] == 10


def test_metrics() -> None:
    registry = Registry()
    judge = policy(limit(amount=1, max_keys=2), registry=registry)
    for name in ("ann", "ann", "bob", "cid"):
        judge.on_request(by(name), 0.0)
    assert series(registry) == {
        "decisions_total per-user orders allowed": 3,
        "decisions_total per-user orders limited": 1,
        "keys per-user orders": 2,
        "evictions_total per-user orders": 1,
    }


def test_metrics_of_several_limits_name_the_one_that_refused() -> None:
    registry = Registry()
    judge = policy(limit("wide", 10), limit("narrow", 1), registry=registry)
    for _ in range(3):
        judge.on_request(by(), 0.0)
    counts = {key: value for key, value in series(registry).items() if key.startswith("decisions")}
    assert counts == {
        "decisions_total wide orders allowed": 1,
        "decisions_total wide orders limited": 0,
        "decisions_total narrow orders allowed": 1,
        "decisions_total narrow orders limited": 2,
    }


# --- explain, take, shadow, limits kept elsewhere


@pytest.mark.parametrize("count", [1, 2])
def test_explain_changes_nothing(count: int) -> None:
    registry = Registry()
    judge = policy(*[limit(f"limit-{number}", 2) for number in range(count)], registry=registry)
    said = []
    for _ in range(3):
        for _ in range(5):
            verdict, why = judge.explain(by(), 0.0)
        said.append(verdict)
        assert why.startswith("limit limit-0 (2 per 60 s by subject): ")
        judge.on_request(by(), 0.0)
    assert said == ["allow", "allow", "deny"]
    assert judge.explain(by("stranger"), 0.0)[0] == "allow"
    assert series(registry)["keys limit-0 orders"] == 1


def test_take_for_the_application() -> None:
    judge = policy(limit(amount=5))
    taken, asked, refused = (judge.take("mail:ann", cost, 0.0) for cost in (3, 0, 3))
    assert not isinstance(taken, Need)
    assert not isinstance(asked, Need)
    assert not isinstance(refused, Need)
    assert (taken.allowed, taken.remaining) == (True, 2)
    assert (asked.allowed, asked.remaining) == (True, 2)
    assert (refused.allowed, refused.remaining) == (False, 2)
    assert 54 < refused.retry_after_s < 66
    with pytest.raises(ValueError, match="can't take -1"):
        judge.take("mail:ann", -1, 0.0)


def test_shadow_decides_as_enforce_would_and_shows_nothing() -> None:
    registry = Registry()
    shadow = Shadow(policy(limit(amount=1, mode="shadow"), registry=registry), route="orders", registry=registry)
    heads = [by() for _ in range(3)]
    assert [shadow.on_request(head, 0.0) for head in heads] == [None, None, None]
    assert [head.shadow for head in heads] == ["", "rate_limited", "rate_limited"]
    assert [head.response_extra for head in heads] == [b"", b"", b""]
    assert series(registry)["decisions_total per-user orders limited"] == 2


class Elsewhere:
    """A limiter that has to ask first, once for each key."""

    def __init__(self) -> None:
        self.known: set[object] = set()
        self.local = LocalLimit(algorithm_of("gcra", 1, 60, 1), max_keys=10)

    async def fetch(self) -> None:
        self.known.add(self.asked)

    def peek(self, key: Any, cost: int, now: float) -> Decision | Need:
        self.asked = key
        return self.local.peek(key, cost, now) if key in self.known else Need(self)

    def take(self, key: Any, cost: int, now: float) -> Decision | Need:
        return self.local.take(key, cost, now)


async def test_a_limit_that_is_counted_elsewhere_may_need_a_fact_first() -> None:
    judge = policy(limit("here", 5), limit("there", 1), limiter_of=limiter_of)
    assert judge.explain(by(), 0.0)[0] == "need"
    verdict = judge.on_request(by(), 0.0)
    assert isinstance(verdict, Need)
    here = judge._rules[0].limiter
    assert isinstance(here, LocalLimit)
    assert here.count() == 0, "nothing is charged before all have answered"
    await verdict.fact.fetch()
    assert [judge.on_request(by(), 0.0) is None for _ in range(2)] == [True, False]


def limiter_of(settings: Settings) -> Any:
    here = algorithm_of("gcra", settings.limit, settings.per_s, settings.capacity)
    return LocalLimit(here, max_keys=10) if settings.name == "here" else Elsewhere()


# --- settings


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"key": ["user"]}, "'user' is no key: use subject, ip"),
        ({"key": []}, "at least 1 item"),
        ({"cost": 0}, "can't cost 0"),
        ({"cost": "claim:x"}, "is no cost: use a whole number, or header:NAME"),
        ({"cost": "header:"}, "is no key"),
        ({"cost": 4}, "none would pass"),
        ({"burst": 5}, "burst is for token_bucket and gcra"),
        ({"name": 'a"b'}, "pattern"),
        ({"name": "a\r\nset-cookie: x"}, "pattern"),
        ({"limit": 0}, "greater than 0"),
        ({"per_s": 0}, "greater than 0"),
        ({"per_s": float("inf")}, "less than or equal"),
        ({"per_s": float("nan")}, "less than or equal"),
        ({"algorithm": "leaky"}, "sliding_window"),
        ({"ipv6_prefix": 129}, "less than or equal to 128"),
        ({"max_keys": 0}, "greater than or equal to 1"),
        ({"limits": 1}, "Extra inputs"),
    ],
)
def test_bad_settings_are_refused_with_what_is_right(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        Settings.model_validate({"name": "a", "limit": 3, "per_s": 60, **values})


def test_defaults_are_the_design() -> None:
    made = limit()
    assert (made.algorithm, made.key, made.cost, made.max_keys) == ("sliding_window", ("subject",), 1, 10_000)
    assert (made.headers, made.mode, made.ipv6_prefix) == ("both", "enforce", 64)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ([], "at least one limit"),
        ([limit("a"), limit("b", mode="shadow")], "need one mode"),
        ([limit("a"), limit("a", 9)], "same name"),
    ],
)
def test_limits_that_cannot_be_judged_together(limits: list[Settings], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RateLimit(limits, route="orders", registry=Registry())
