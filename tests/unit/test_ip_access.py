"""IP access: deny wins, an allow list is exclusive, and what can't be read is refused."""

import pytest
from pydantic import ValidationError

from agent.policies.ip_access import CACHE_SIZE, IpAccess, Settings
from agent.ports.policy import Deny
from agent.telemetry.metrics import Registry
from tests.kit.head import request_head

BOTH = {"allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.6.6.0/24"]}


def make(**settings: object) -> IpAccess:
    return IpAccess(Settings.model_validate(settings), route="r", registry=Registry())


@pytest.mark.parametrize(
    ("settings", "ip", "allowed", "why"),
    [
        ({}, "203.0.113.9", True, "none of the denied"),
        ({"deny": ["203.0.113.0/24"]}, "203.0.113.9", False, "denied by 203.0.113.0/24"),
        ({"deny": ["203.0.113.0/24"]}, "203.0.114.9", True, "none of the denied"),
        (BOTH, "10.1.1.1", True, "allowed by 10.0.0.0/8"),
        (BOTH, "10.6.6.1", False, "denied by 10.6.6.0/24"),
        (BOTH, "11.0.0.1", False, "none of the allowed"),
        (BOTH, "2001:db8::9", True, "allowed by 2001:db8::/32"),
        (BOTH, "2001:db9::9", False, "none of the allowed"),
        (BOTH, "::ffff:10.1.1.1", True, "allowed by 10.0.0.0/8"),
        (BOTH, "::ffff:10.6.6.1", False, "denied by 10.6.6.0/24"),
        ({"deny": ["::ffff:10.6.6.0/120"]}, "10.6.6.1", False, "denied by 10.6.6.0/24"),
        ({}, "not-an-address", False, "is no IP address"),
        ({}, "010.1.1.1", False, "is no IP address"),
        (BOTH, "unix", True, "Unix socket are allowed"),
        ({"unix": "deny"}, "unix", False, "Unix socket are refused"),
    ],
)
def test_verdicts(settings: dict[str, object], ip: str, allowed: bool, why: str) -> None:
    policy, head = make(**settings), request_head(client_ip=ip)
    for _ in range(2):  # the second answer comes from the cache
        verdict = policy.on_request(head, 0.0)
        if allowed:
            assert verdict is None
        else:
            assert isinstance(verdict, Deny)
            assert (verdict.refusal.status, verdict.refusal.code) == (403, "ip_denied")
            assert why in verdict.why
    kind, sentence = policy.explain(head, 0.0)
    assert kind == ("allow" if allowed else "deny")
    assert why in sentence


def test_empty_address_is_refused() -> None:
    head = request_head()
    head.client_ip = ""
    assert isinstance(make().on_request(head, 0.0), Deny)


def test_peer_is_not_judged_where_a_proxy_is_trusted() -> None:
    head = request_head(peer="10.0.0.1", client_ip="203.0.113.9")
    assert isinstance(make(allow=["10.0.0.0/8"]).on_request(head, 0.0), Deny)


def test_cache_is_bounded_and_keeps_the_unix_verdict() -> None:
    policy = make(unix="deny", deny=["10.0.0.0/8"])
    for number in range(3 * CACHE_SIZE):
        policy.on_request(request_head(client_ip=f"10.0.{number >> 8}.{number & 255}"), 0.0)
        assert len(policy._verdicts) <= CACHE_SIZE
    assert isinstance(policy.on_request(request_head(client_ip="unix"), 0.0), Deny)


def test_refused_addresses_share_one_refusal() -> None:
    policy = make(allow=["10.0.0.0/8"])
    first, second = (policy.on_request(request_head(client_ip=ip), 0.0) for ip in ("1.1.1.1", "2.2.2.2"))
    assert isinstance(first, Deny)
    assert isinstance(second, Deny)
    assert first.refusal is second.refusal


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"allow": ["10.0.0.1/8"]}, "write 10.0.0.0/8"),
        ({"deny": ["intranet"]}, "'intranet' is no network"),
        ({"denied": []}, "Extra inputs are not permitted"),
        ({"unix": "maybe"}, "'allow' or 'deny'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(settings)
