"""Retries: only what is safe, in time, and under the budget."""

from dataclasses import dataclass
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.core.window import BUCKETS
from agent.policies.retry import CAUSES, BudgetSettings, RetryBudget, RetryRule, Settings, parse_retry_after
from agent.telemetry.metrics import Registry
from agent.wire.codes import BY_CODE
from tests.kit.head import request_head

NOW = 1000.0
EPOCH = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@dataclass
class Exchange:
    """A request under way, as the data path describes it."""

    replayable: bool = True
    tries: int = 1
    body_kept: bool = True
    response_started: bool = False
    deadline: float = NOW + 15


def make(registry: Registry | None = None, **settings: Any) -> RetryRule:
    return RetryRule(
        Settings.model_validate(settings),
        route="r",
        registry=registry or Registry(),
        rand=Random(1),
    )


def denied(registry: Registry, reason: str) -> int:
    return registry.counter("outrigger_retries_denied_total", "", ("route", "reason")).at("r", reason)[0]


def retried(registry: Registry, cause: str) -> int:
    return registry.counter("outrigger_retries_total", "", ("route", "cause")).at("r", cause)[0]


@pytest.mark.parametrize(
    ("method", "fields", "length", "replayable"),
    [
        (b"GET", {}, 0, True),
        (b"HEAD", {}, 0, True),
        (b"OPTIONS", {}, 0, True),
        (b"PUT", {}, 65536, True),
        (b"PUT", {}, 65537, False),
        (b"PUT", {}, -1, True),  # chunked: the data path keeps what fits, and says so in body_kept
        (b"DELETE", {}, 0, True),
        (b"POST", {}, 0, False),
        (b"PATCH", {}, 0, False),
        (b"POST", {b"idempotency-key": b"k"}, 10, True),
        (b"POST", {b"idempotency-key": b"k"}, 65537, False),
    ],
)
def test_replayable(method: bytes, fields: dict[bytes, bytes], length: int, replayable: bool) -> None:
    assert make().replayable(request_head(method, fields=fields, content_length=length)) is replayable


def test_tunnels_are_not_replayable() -> None:
    head = request_head()
    head.upgrade = b"websocket"
    assert not make().replayable(head)


def test_methods_are_configurable() -> None:
    rule = make(methods=["get", "REPORT"])
    assert rule.replayable(request_head(b"GET"))
    assert rule.replayable(request_head(b"REPORT"))
    assert not rule.replayable(request_head(b"PUT"))


@pytest.mark.parametrize(
    ("on", "cause", "retries"),
    [
        (["connect"], "connect", True),
        (["connect"], "reset", False),
        (["reset"], "reset", True),
        (["timeout"], "timeout", True),
        (["reset"], "timeout", False),
        ([502], 502, True),
        ([502], 503, False),
        (["5xx"], 500, True),
        (["5xx"], 599, True),
        (["5xx"], 429, False),
        (["5xx"], "reset", False),
        (["gateway_error"], 502, True),
        (["gateway_error"], 504, True),
        (["gateway_error"], 500, False),
        ([429], 429, True),
        ([], 503, False),
    ],
)
def test_causes(on: list[str | int], cause: str | int, retries: bool) -> None:
    registry = Registry()
    rule = make(registry, on=on, per_try_timeout_s=1)
    assert (rule.after(Exchange(), cause, NOW) is not None) is retries
    assert retried(registry, str(cause)) == retries
    if isinstance(cause, int):
        assert rule.wants(cause) is retries


@pytest.mark.parametrize("cause", [502, 503, 504, "reset", "timeout"])
def test_post_is_never_sent_twice_on_a_hunch(cause: str | int) -> None:
    """traefik#1104: a POST that was answered 502 or 504 may have been carried out."""
    rule = make(on=["connect", "reset", "timeout", "5xx"], per_try_timeout_s=1)
    replayable = rule.replayable(request_head(b"POST"))
    assert rule.after(Exchange(replayable=replayable), cause, NOW) is None


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PATCH"])
def test_any_method_is_sent_again_where_nothing_was_sent(method: bytes) -> None:
    rule = make()
    assert rule.after(Exchange(replayable=rule.replayable(request_head(method))), "connect", NOW) is not None


@pytest.mark.parametrize(
    ("exchange", "retry_after_s", "why"),
    [
        (Exchange(tries=2), -1, "exhausted"),
        (Exchange(body_kept=False), -1, "body"),
        (Exchange(deadline=NOW), -1, "deadline"),
        (Exchange(deadline=NOW - 1), -1, "deadline"),
        (Exchange(deadline=NOW + 0.5), 0.5, "deadline"),
        (Exchange(), 1.5, "retry_after"),
    ],
)
def test_why_not(exchange: Exchange, retry_after_s: float, why: str) -> None:
    registry = Registry()
    rule = make(registry, budget={"ratio": 0, "min_per_s": 1, "window_s": 1})
    assert rule.after(exchange, 503, NOW, retry_after_s) is None
    assert denied(registry, why) == 1
    assert retried(registry, "503") == 0
    assert rule.after(Exchange(), 503, NOW) is not None, "a retry that was denied cost nothing of the budget"


def test_nothing_is_sent_again_once_the_response_has_begun() -> None:
    for cause in ("connect", "reset", 503):
        assert make().after(Exchange(response_started=True), cause, NOW) is None


def test_one_attempt_means_no_retry() -> None:
    assert make(attempts=1).after(Exchange(), "connect", NOW) is None
    rule = make(attempts=3)
    assert rule.after(Exchange(tries=2), "connect", NOW) is not None
    assert rule.after(Exchange(tries=3), "connect", NOW) is None


def test_full_jitter_grows_up_to_its_limit() -> None:
    rule = make(attempts=10, backoff_s=0.1, max_backoff_s=0.5, budget={"min_per_s": 10000})
    for tries, longest in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.5), (9, 0.5)):
        pauses = [rule.after(Exchange(tries=tries), 503, NOW) or 0.0 for _ in range(400)]
        assert 0.9 * longest < max(pauses) <= longest
        assert min(pauses) < 0.1 * longest
        assert sum(pauses) / len(pauses) == pytest.approx(longest / 2, rel=0.15)


def test_retry_after_is_waited_for() -> None:
    assert make(max_backoff_s=0.25).after(Exchange(), 503, NOW, 0.7) == 0.7
    assert make(max_retry_after_s=0).after(Exchange(), 503, NOW, 0.0) is not None
    assert make(max_retry_after_s=0).after(Exchange(), 503, NOW, 1.0) is None


def test_no_deadline_is_no_objection() -> None:
    assert make().after(Exchange(deadline=inf), 503, NOW) is not None


def test_try_deadline() -> None:
    assert make(per_try_timeout_s=2).try_deadline(NOW, NOW + 15) == NOW + 2
    assert make(per_try_timeout_s=2).try_deadline(NOW, NOW + 1) == NOW + 1
    assert make().try_deadline(NOW, NOW + 15) == NOW + 15


def test_shadow_counts_and_never_retries() -> None:
    registry = Registry()
    rule = make(registry, mode="shadow")
    assert rule.after(Exchange(), 503, NOW) is None
    assert (denied(registry, "shadow"), retried(registry, "503")) == (1, 0)


def test_budget_is_the_last_word() -> None:
    registry = Registry()
    rule = make(registry, budget={"ratio": 0.2, "min_per_s": 0})
    for _ in range(10):
        rule.budget.on_request(NOW)
    pauses = [rule.after(Exchange(), 503, NOW) for _ in range(5)]
    assert [pause is not None for pause in pauses] == [True, True, False, False, False]
    assert (retried(registry, "503"), denied(registry, "budget")) == (2, 3)


def test_budget_survives_a_reload_where_it_is_the_same() -> None:
    old = make(budget={"ratio": 0.2, "min_per_s": 0})
    for _ in range(5):
        old.budget.on_request(NOW)
    same, other = make(attempts=3, budget={"ratio": 0.2, "min_per_s": 0}), make(budget={"ratio": 0.3, "min_per_s": 0})
    assert same.adopt(old)
    assert not other.adopt(old)
    assert [rule.after(Exchange(), 503, NOW) is not None for rule in (old, same, other)] == [True, False, False]


def test_retries_that_still_wait_are_charged() -> None:
    """envoy#30205: a burst of failures all entered their back-off before any retry was counted."""
    budget = RetryBudget(BudgetSettings(ratio=0.2, min_per_s=0, window_s=10))
    for _ in range(100):
        budget.on_request(NOW)
    assert sum(budget.try_take(NOW) for _ in range(100)) == 20  # all at the same moment, none has been sent yet


@pytest.mark.parametrize(
    ("ratio", "min_per_s", "requests", "allowed"),
    [
        (0.2, 3, 0, 30),
        (0.2, 3, 100, 30),
        (0.2, 3, 200, 40),
        (0.2, 0, 4, 0),
        (0.2, 0, 5, 1),
        (0, 0, 99, 0),
        (1, 0, 7, 7),
        (0.29, 0, 100, 29),
    ],
)
def test_allowance(ratio: float, min_per_s: float, requests: int, allowed: int) -> None:
    budget = RetryBudget(BudgetSettings(ratio=ratio, min_per_s=min_per_s, window_s=10))
    for _ in range(requests):
        budget.on_request(NOW)
    assert sum(budget.try_take(NOW) for _ in range(100)) == allowed
    assert sum(budget.try_take(NOW + 11) for _ in range(100)) == int(10 * min_per_s)  # the window has passed


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=200),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([0.0, 0.2, 1.0]),
)
def test_budget_agrees_with_remembering_everything(
    events: list[tuple[int, bool]], ratio: float, min_per_s: float
) -> None:
    budget = RetryBudget(BudgetSettings(ratio=ratio, min_per_s=min_per_s, window_s=BUCKETS))
    now, requests, retries = 0, list[int](), list[int]()
    for step, is_retry in events:
        now += step
        if not is_retry:
            budget.on_request(now)
            requests.append(now)
            continue
        recent = sum(now - moment < BUCKETS for moment in requests)
        allowance = max(ratio * recent, min_per_s * BUCKETS)
        taken = sum(now - moment < BUCKETS for moment in retries)
        assert budget.try_take(now) is (taken + 1 <= allowance + 1e-9)
        if taken + 1 <= allowance + 1e-9:
            retries.append(now)
    assert len(retries) <= ratio * len(requests) + min_per_s * BUCKETS * (now // BUCKETS + 1)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0),
        (b"120", 120),
        (b"99999999999999999999", 999999999),
        (b"Sun, 06 Nov 1994 08:49:47 GMT", 10),
        (b"Sun, 06 Nov 1994 08:49:07 GMT", 0),
        (b"", -1),
        (b"-5", -1),
        (b"1.5", -1),
        (b"soon", -1),
        (b"Sun, 06 Nov 1994 08:49:47 CET", -1),
        (b"Sun, 31 Feb 1994 08:49:47 GMT", -1),
        (b"Sun, 06 Nov 1994 08:49 GMT", -1),
        (b"Sun, 06 November 1994 08:49:47 GMT", -1),
        (b"\xff, 06 Nov \xff 08:49:47 GMT", -1),
    ],
)
def test_parse_retry_after(value: bytes, seconds: float) -> None:
    assert parse_retry_after(value, EPOCH) == seconds


@given(st.binary(max_size=40))
def test_any_retry_after_is_read_or_refused(value: bytes) -> None:
    assert parse_retry_after(value, EPOCH) >= -1


def test_every_failure_code_exists() -> None:
    assert set(CAUSES) <= set(BY_CODE)
    assert set(CAUSES.values()) == {"connect", "reset", "timeout"}


def test_on_is_read_from_yaml_as_users_write_it() -> None:
    assert Settings.model_validate({True: ["reset", 503]}).on == ("reset", 503)  # YAML 1.1: `on` is true


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attempts": 0}, "greater than or equal to 1"),
        ({"on": ["conect"]}, "'connect', 'reset'"),
        ({"on": [200]}, "greater than or equal to 400"),
        ({"on": ["timeout"]}, "needs per_try_timeout_s"),
        ({"backoff_s": 0.5}, "max_backoff_s 0.25 is below backoff_s 0.5"),
        ({"budget": {"ratio": 1.5}}, "less than or equal to 1"),
        ({"retries": 3}, "Extra inputs"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(settings)
