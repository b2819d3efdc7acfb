"""The order of a route's policies, and what a chain takes over from the one before it."""

from typing import Any

import pytest

from agent.assembly.chain import Parts, carry_state, chain_of
from agent.config.route import RouteSettings
from agent.core.identity import Identity
from agent.policies.jwt import Tokens
from agent.policies.shadow import Shadow
from agent.ports.policy import Deny, Policy
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from tests.kit.head import request_head

IP = {"name": "per-ip", "limit": 2, "per_s": 60, "key": ["ip"]}
USER = {"name": "per-user", "limit": 9, "per_s": 60}


def chain(*limits: dict[str, Any], registry: Registry | None = None, **values: Any) -> tuple[Policy, ...]:
    route = RouteSettings.model_validate({"name": "r", "rate_limits": limits, **values})
    return chain_of(route, Parts(registry or Registry(), ("main",), lambda _: Tokens([]), 1.0, {}), None)


def names(policies: tuple[Policy, ...]) -> list[str]:
    return [f"shadow {policy.name}" if isinstance(policy, Shadow) else policy.name for policy in policies]


def by(subject: str = "") -> RequestHead:
    head = request_head()
    if subject:
        head.identity = Identity(subject, "main", {})
    return head


def limits_of(policies: tuple[Policy, ...]) -> list[Policy]:
    return [policy for policy in policies if policy.name == "rate_limit"]


EVERYTHING: dict[str, Any] = {
    "ip": {"deny": ["192.0.2.1"]},
    "cors": {"allow_origins": ["https://shop.example"]},
    "auth": {"roles": {"any": ["reader"]}},
    "circuit_breaker": {},
    "concurrency": {"max_in_flight": 1},
}


def test_the_order_of_everything() -> None:
    assert names(chain(USER, IP, **EVERYTHING)) == [
        "ip_access", "cors", "rate_limit", "jwt", "authorize", "rate_limit", "circuit_breaker", "concurrency",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "is_early"),
    [
        (["ip"], True),
        (["global"], True),
        (["host", "method", "route"], True),
        (["header:x-client"], True),
        (["subject"], False),
        (["tenant"], False),
        (["issuer"], False),
        (["claim:azp"], False),
        (["ip", "subject"], False),
    ],
)
def test_a_limit_that_needs_nobody_s_identity_is_judged_before_the_token(key: list[str], is_early: bool) -> None:
    order = ["rate_limit", "jwt"] if is_early else ["jwt", "rate_limit"]
    assert names(chain(IP | {"key": key})) == order


def test_where_nobody_is_asked_for_a_token_all_limits_stay_together() -> None:
    assert names(chain(IP, USER, auth="none")) == ["rate_limit"]


def test_a_closed_route_refuses_whoever_comes_and_can_be_tried() -> None:
    (closed,) = chain(auth="deny")
    verdict = closed.on_request(by("ann"), 0.0)
    assert isinstance(verdict, Deny)
    assert (verdict.refusal.status, verdict.refusal.code) == (403, "route_denied")
    assert closed.explain(by("ann"), 0.0) == ("deny", "the route is closed to everybody: auth is deny")
    (tried,) = chain(auth="deny", mode="shadow")
    head = by("ann")
    assert tried.on_request(head, 0.0) is None
    assert head.shadow == "route_denied"


def test_limits_on_trial_are_judged_apart_at_either_place() -> None:
    tried = {"mode": "shadow"}
    policies = chain(IP, IP | tried | {"name": "i"}, USER, USER | tried | {"name": "u"})
    assert names(policies) == ["rate_limit", "shadow rate_limit", "jwt", "rate_limit", "shadow rate_limit"]
    assert names(chain(IP, USER, mode="shadow")) == ["shadow rate_limit", "shadow jwt", "shadow rate_limit"]


def test_bad_tokens_use_up_the_limit_of_an_address() -> None:
    early, token = chain(IP)
    answers = []
    for number in range(3):
        head = request_head(fields={b"authorization": b"Bearer %d" % number})
        verdict = early.on_request(head, 0.0) or token.on_request(head, 0.0)
        assert isinstance(verdict, Deny)
        answers.append((verdict.refusal.code, head.response_extra.count(b"x-ratelimit-remaining")))
    assert answers == [("token_invalid", 1), ("token_invalid", 1), ("rate_limited", 0)]


def told(head: RequestHead, verdict: Deny | None) -> list[str]:
    raw = head.response_extra + (verdict.extra if verdict is not None else b"")
    return sorted(line for line in raw.decode().split("\r\n") if line)


def test_the_client_gets_one_set_of_fields_and_all_policies() -> None:
    early, _, late = chain(IP | {"limit": 50}, USER | {"limit": 1})
    for is_allowed in (True, False):
        head = by("ann")
        head.response_extra = b"vary: origin\r\n"
        assert early.on_request(head, 0.0) is None
        verdict = late.on_request(head, 0.0)
        assert isinstance(verdict, Deny) is not is_allowed
        assert isinstance(verdict, Deny | None)
        lines = told(head, verdict)
        fields = [line.partition(":")[0] for line in lines]
        assert len(set(fields)) == len(fields)
        assert 'ratelimit-policy: "per-ip";q=50;w=60, "per-user";q=1;w=60' in lines
        assert "x-ratelimit-limit: 1" in lines
        assert "vary: origin" in lines


def test_fields_of_another_kind_and_of_limits_on_trial_are_left_alone() -> None:
    early, _, late = chain(IP | {"headers": "legacy"}, USER | {"headers": "draft"})
    head = by("ann")
    assert early.on_request(head, 0.0) is late.on_request(head, 0.0) is None
    assert [line.partition(":")[0] for line in told(head, None)] == [
        "ratelimit-policy", "ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset",
    ]  # fmt: skip
    early, _, late = chain(IP, USER | {"mode": "shadow"})
    head = by("ann")
    assert early.on_request(head, 0.0) is late.on_request(head, 0.0) is None
    assert "x-ratelimit-limit: 2" in told(head, None)


@pytest.mark.parametrize("before", [{}, {"auth": "none"}], ids=["two places", "one place"])
@pytest.mark.parametrize("after", [{}, {"auth": "none"}], ids=["two places", "one place"])
def test_counts_go_on_wherever_a_limit_is_judged_now(before: dict[str, Any], after: dict[str, Any]) -> None:
    registry = Registry()
    limits = IP | {"limit": 1}, USER | {"limit": 1}
    old = chain(*limits, registry=registry, **before)
    for policy in limits_of(old):
        assert policy.on_request(by("ann"), 0.0) is None
    new = chain(*limits, registry=registry, **after)
    carry_state(new, old)
    other_address = by("ann")
    other_address.client_ip = "192.0.2.9"
    for head in (by("bob"), other_address):  # one is known by its address, one by its name
        assert [policy for policy in limits_of(new) if isinstance(policy.on_request(head, 0.0), Deny)]
