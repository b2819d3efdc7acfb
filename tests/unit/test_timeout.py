"""Time-outs: where each begins and ends, and what callers and callees say to each other about deadlines."""

from math import inf
from typing import Any

import pytest
from pydantic import ValidationError

from agent.policies.timeout import Settings, Timeouts
from agent.telemetry.metrics import Registry
from tests.kit.head import request_head

NOW = 1000.0


def make(registry: Registry | None = None, **settings: Any) -> Timeouts:
    return Timeouts(Settings.model_validate(settings), route="r", registry=registry or Registry())


@pytest.mark.parametrize(
    ("settings", "sent", "left_s"),
    [
        ({}, None, 15),
        ({"timeout_s": 2}, None, 2),
        ({"timeout_s": None}, None, inf),
        ({"timeout_s": None, "max_duration_s": 30}, None, 30),
        ({"timeout_s": 2}, b"500", 0.5),
        ({"timeout_s": 2}, b"2000", 2),
        ({"timeout_s": 2}, b"60000", 2),  # only ever shortens
        ({"timeout_s": None}, b"250", 0.25),
        ({"timeout_s": 2}, b"0", 0),
        ({"timeout_s": 2}, b"999999999999", 2),
    ],
)
def test_deadline(settings: dict[str, Any], sent: bytes | None, left_s: float) -> None:
    registry = Registry()
    head = request_head(fields={} if sent is None else {b"x-outrigger-deadline-ms": sent})
    assert make(registry, **settings).deadline(head, NOW) == pytest.approx(NOW + left_s)
    assert registry.counter("outrigger_deadline_malformed_total", "", ("route",)).at("r") == [0]


@pytest.mark.parametrize(
    ("settings", "left_s", "is_hurry"),
    [({"timeout_s": 2}, 0.9, True), ({"timeout_s": 2}, 1.0, False), ({"timeout_s": 2, "max_duration_s": 1}, 0.5, False),
     ({"timeout_s": None}, 1000.0, True), ({"timeout_s": None}, inf, False)],
)  # fmt: skip
def test_hurry_is_less_than_half_of_our_own_limit(settings: dict[str, Any], left_s: float, is_hurry: bool) -> None:
    assert make(**settings).is_hurry(left_s) is is_hurry


@pytest.mark.parametrize("sent", [b"", b"-1", b"+5", b"1.5", b"5s", b"0x10", b"5, 5", b"9999999999999", b"\xb2"])
def test_malformed_deadline_is_ignored_and_counted(sent: bytes) -> None:
    registry = Registry()
    head = request_head(fields={b"x-outrigger-deadline-ms": sent})
    assert make(registry, timeout_s=2).deadline(head, NOW) == NOW + 2
    assert registry.counter("outrigger_deadline_malformed_total", "", ("route",)).at("r") == [1]


@pytest.mark.parametrize(
    ("settings", "deadline", "line"),
    [
        ({}, NOW + 1.5, b"x-outrigger-deadline-ms: 1500\r\n"),
        ({}, NOW + 0.0019, b"x-outrigger-deadline-ms: 1\r\n"),
        ({}, NOW - 3, b"x-outrigger-deadline-ms: 0\r\n"),
        ({}, inf, b""),
        ({"forward_deadline": False}, NOW + 1.5, b""),
    ],
)
def test_what_is_left_is_forwarded(settings: dict[str, Any], deadline: float, line: bytes) -> None:
    assert make(**settings).deadline_line(deadline, NOW) == line


@pytest.mark.parametrize(
    ("sent", "settings", "deadline"),
    [
        (None, {"timeout_s": 2}, NOW + 62),  # our limit begins anew when the body is complete
        (b"30000", {"timeout_s": 2}, NOW + 30),  # the caller's doesn't, and may have passed
        (b"61000", {"timeout_s": 2}, NOW + 61),
        (None, {"timeout_s": 2, "max_duration_s": 50}, NOW + 50),
        (b"never", {"timeout_s": 2}, NOW + 62),
    ],
)
def test_deadline_after_an_upload_of_a_minute(sent: bytes | None, settings: dict[str, Any], deadline: float) -> None:
    registry = Registry()
    timeouts = make(registry, **settings)
    head = request_head(b"PUT", fields={} if sent is None else {b"x-outrigger-deadline-ms": sent})
    timeouts.deadline(head, NOW)
    assert timeouts.deadline(head, NOW + 60, NOW) == pytest.approx(deadline)
    malformed = registry.counter("outrigger_deadline_malformed_total", "", ("route",)).at("r")
    assert malformed == [sent == b"never"], "counted once a request"


def test_each_hop_only_shortens() -> None:
    first, second = make(timeout_s=2), make(timeout_s=10)
    line = first.deadline_line(first.deadline(request_head(), NOW), NOW + 0.5)
    head = request_head(fields=dict([line.rstrip().split(b": ")]))
    assert second.deadline(head, NOW + 0.5) == pytest.approx(NOW + 2)


@pytest.mark.parametrize("field", ["timeout_s", "idle_timeout_s", "max_duration_s", "connect_timeout_s"])
def test_zero_is_no_limit_to_set(field: str) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        Settings.model_validate({field: 0})
