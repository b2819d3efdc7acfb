"""Roles and scopes: the table of who passes, and what the others are told."""

from typing import Any

import pytest
from pydantic import ValidationError

from agent.core.identity import Identity
from agent.policies.authorize import Authorize, Settings
from agent.ports.policy import Deny
from agent.telemetry.metrics import Registry
from tests.kit.head import request_head


def policy(**settings: Any) -> Authorize:
    return Authorize(Settings.model_validate(settings), route="r", registry=Registry())


def judge(made: Authorize, roles: str = "", scopes: str = "") -> Deny | None:
    identity = Identity("jane", "main", {}, roles=frozenset(roles.split()), scopes=frozenset(scopes.split()))
    head = request_head(identity=identity)
    verdict = made.on_request(head, 0.0)
    assert made.explain(head, 0.0)[0] == ("allow" if verdict is None else "deny")
    assert verdict is None or isinstance(verdict, Deny)
    return verdict


@pytest.mark.parametrize(
    ("settings", "roles", "scopes", "code"),
    [
        ({}, "", "", ""),
        ({"roles": {"any": ["a", "b"]}}, "a", "", ""),
        ({"roles": {"any": ["a", "b"]}}, "b c", "", ""),
        ({"roles": {"any": ["a", "b"]}}, "", "", "role_missing"),
        ({"roles": {"any": ["a", "b"]}}, "c A", "a b", "role_missing"),
        ({"roles": {"all": ["a", "b"]}}, "b a c", "", ""),
        ({"roles": {"all": ["a", "b"]}}, "a", "", "role_missing"),
        ({"roles": {"none": ["x"]}}, "a", "", ""),
        ({"roles": {"none": ["x"]}}, "", "", ""),
        ({"roles": {"none": ["x"]}}, "a x", "", "role_missing"),
        ({"roles": {"any": ["a"], "all": ["b"], "none": ["c"]}}, "a b", "", ""),
        ({"roles": {"any": ["a"], "all": ["b"], "none": ["c"]}}, "b", "", "role_missing"),
        ({"roles": {"any": ["a"], "all": ["b"], "none": ["c"]}}, "a", "", "role_missing"),
        ({"roles": {"any": ["a"], "all": ["b"], "none": ["c"]}}, "a b c", "", "role_missing"),
        ({"scopes": {"all": ["r", "w"]}}, "", "r w x", ""),
        ({"scopes": {"all": ["r", "w"]}}, "r w", "r", "scope_missing"),
        ({"scopes": {"any": ["r", "w"]}}, "", "w", ""),
        ({"scopes": {"any": ["r", "w"]}}, "", "", "scope_missing"),
        ({"scopes": {"any": ["r", "w"], "all": ["x"]}}, "", "r", "scope_missing"),
        ({"roles": {"any": ["a"]}, "scopes": {"all": ["r"]}}, "a", "r", ""),
        ({"roles": {"any": ["a"]}, "scopes": {"all": ["r"]}}, "", "r", "role_missing"),
        ({"roles": {"any": ["a"]}, "scopes": {"all": ["r"]}}, "a", "", "scope_missing"),
    ],
    ids=str,
)
def test_who_passes(settings: dict[str, Any], roles: str, scopes: str, code: str) -> None:
    verdict = judge(policy(**settings), roles, scopes)
    assert (verdict.refusal.code if verdict else "") == code
    assert verdict is None or verdict.refusal.status == 403


@pytest.mark.parametrize("settings", [{}, {"roles": {"none": ["x"]}}, {"roles": {"any": ["a"]}}])
def test_nobody_is_refused(settings: dict[str, Any]) -> None:
    made = policy(**settings)
    head = request_head()
    verdict = made.on_request(head, 0.0)
    assert isinstance(verdict, Deny)
    assert (verdict.refusal.status, verdict.refusal.code) == (401, "token_missing")
    assert b'www-authenticate: Bearer realm="outrigger"\r\n' in verdict.refusal.head
    assert made.explain(head, 0.0) == ("deny", "nobody was authenticated")


def test_the_client_learns_which_scope_to_ask_for() -> None:
    verdict = judge(policy(scopes={"all": ["orders:read", "x"], "any": ["x", "y"]}, realm="shop"))
    assert verdict is not None
    line = b'www-authenticate: Bearer realm="shop", error="insufficient_scope", scope="orders:read x y"\r\n'
    assert line in verdict.refusal.head


def test_the_client_learns_no_names_of_roles() -> None:
    verdict = judge(policy(roles={"any": ["secret-role"]}))
    assert verdict is not None
    assert b"secret-role" not in verdict.refusal.render()
    assert "secret-role" in verdict.why


@pytest.mark.parametrize(
    "settings",
    [
        {"roles": {"any": []}},
        {"roles": {"all": [""]}},
        {"roles": {"some": ["a"]}},
        {"scopes": {"all": ["a b"]}},
        {"scopes": {"all": ['a"']}},
        {"scopes": {"any": ["a\r\nx: y"]}},
        {"scopes": {"any": ["a\n"]}},
        {"scopes": {"none": ["a"]}},
        {"roles": {"all": ["a"], "none": ["a"]}},
        {"roles": {"any": ["a"], "none": ["a", "b"]}},
        {"roles": ["a"]},
    ],
    ids=str,
)
def test_conditions_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(settings)


def test_a_role_that_is_only_partly_excluded_can_still_pass() -> None:
    made = policy(roles={"any": ["a", "b"], "none": ["b"]})
    assert judge(made, "a") is None
    assert judge(made, "a b") is not None
