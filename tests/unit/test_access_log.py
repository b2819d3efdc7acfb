"""One line per request, whatever the request holds."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.telemetry import access_log as log_module
from agent.telemetry.access_log import FIELDS, AccessLog
from agent.telemetry.metrics import Registry

FULL: dict[int, Any] = {
    log_module.METHOD: b"GET",
    log_module.ROUTE: "read-orders",
    log_module.STATUS: 503,
    log_module.REASON: "circuit_open",
    log_module.ORIGIN: "agent",
    log_module.TARGET: "127.0.0.1:8000",
    log_module.SHADOW: "rate_limited",
    log_module.RETRIES: 2,
    log_module.DIRECTION: "inbound",
    log_module.TIME: 1700000000.125,
    log_module.TRACE_ID: b"0af7651916cd43dd8448eb211c80319c",
    log_module.SPAN_ID: 0xB7AD6B7169203331,
    log_module.CLIENT: "10.1.2.3",
    log_module.PATH: b"/orders/7",
    log_module.WHY: "5 of 10 failed",
    log_module.SUBJECT: "ann",
    log_module.TENANT: "shop",
    log_module.DURATION_S: 0.0012345,
    log_module.UPSTREAM_S: 0.001,
    log_module.WAIT_S: 1.25,
    log_module.REQUEST_BYTES: 0,
    log_module.RESPONSE_BYTES: 150,
}


def entry(**changes: Any) -> tuple[Any, ...]:
    values = FULL | {getattr(log_module, name): value for name, value in changes.items()}
    return tuple(values[index] for index in range(len(FIELDS)))


def line(**changes: Any) -> dict[str, Any]:
    log = AccessLog(10, Registry(), service="orders")
    log.record(entry(**changes))
    drained = log.drain(10)
    assert drained.count(b"\n") == 1
    found: dict[str, Any] = json.loads(drained)
    return found


def dropped(registry: Registry) -> int:
    return registry.counter(
        "outrigger_access_log_dropped_total", "Access-log records that were lost: the ring was full."
    ).at()[0]


def test_every_field_in_full() -> None:
    assert line() == {
        "time": "2023-11-14T22:13:20.125Z",
        "level": "warning",
        "service": "orders",
        "http.request.method": "GET",
        "outrigger.route": "read-orders",
        "http.response.status_code": 503,
        "outrigger.reason": "circuit_open",
        "outrigger.origin": "agent",
        "outrigger.upstream.address": "127.0.0.1:8000",
        "outrigger.shadow": "rate_limited",
        "http.request.resend_count": 2,
        "outrigger.direction": "inbound",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "client.address": "10.1.2.3",
        "url.path": "/orders/7",
        "outrigger.why": "5 of 10 failed",
        "enduser.id": "ann",
        "outrigger.tenant": "shop",
        "http.server.request.duration": 0.001235,
        "outrigger.upstream.duration": 0.001,
        "outrigger.wait.duration": 1.25,
        "http.request.body.size": 0,
        "http.response.body.size": 150,
    }


def test_the_table_describes_the_line() -> None:
    assert set(line()) == {field.name for field in FIELDS} | {"level", "service"}
    assert len({field.name for field in FIELDS}) == len(FIELDS) == len(FULL)
    assert all(field.meaning.endswith(".") for field in FIELDS)
    assert [type(FULL[index]) for index in range(len(FIELDS))] == [field.type for field in FIELDS]


@pytest.mark.parametrize(
    ("constant", "empty", "gone"),
    [
        ("ROUTE", "", "outrigger.route"),
        ("STATUS", 0, "http.response.status_code"),
        ("REASON", "", "outrigger.reason"),
        ("ORIGIN", "", "outrigger.origin"),
        ("TARGET", "", "outrigger.upstream.address"),
        ("SHADOW", "", "outrigger.shadow"),
        ("RETRIES", 0, "http.request.resend_count"),
        ("WHY", "", "outrigger.why"),
        ("SUBJECT", "", "enduser.id"),
        ("TENANT", "", "outrigger.tenant"),
        ("UPSTREAM_S", -1.0, "outrigger.upstream.duration"),
        ("WAIT_S", 0.001, "outrigger.wait.duration"),
        ("DURATION_S", -1.0, "http.server.request.duration"),
        ("TRACE_ID", b"", "trace_id"),
    ],
)
def test_empty_values_are_left_out(constant: str, empty: Any, gone: str) -> None:
    assert gone in line()
    assert gone not in line(**{constant: empty})


@pytest.mark.parametrize(
    ("status", "origin", "level"),
    [(500, "agent", "warning"), (504, "agent", "warning"), (500, "app", "info"), (429, "agent", "info")],
)
def test_only_our_own_failures_warn(status: int, origin: str, level: str) -> None:
    assert line(STATUS=status, ORIGIN=origin)["level"] == level


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b'/a"b\\c', '/a"b\\c'),
        (b'/x\n{"level":"error"}', '/x\n{"level":"error"}'),
        (b"/\r\n\t\x00\x1b[31m", "/\r\n\t\x00\x1b[31m"),
        (b"/caf\xc3\xa9%20x", "/caf%C3%A9%20x"),
        (b"/\xff\xfe", "/%FF%FE"),
        (b"/\xc2\x85\xe2\x80\xa8", "/%C2%85%E2%80%A8"),
        (b"/" + b"a" * 5000, "/" + "a" * 4095 + "…"),
        (b"", ""),
    ],
)
def test_a_path_cannot_break_the_line(path: bytes, shown: str) -> None:
    assert line(PATH=path)["url.path"] == shown


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ('ann","level":"error', 'ann","level":"error'),
        ("José", "José"),
        ("a\nb", "a\nb"),
        ("a\x7f\x9b31m\u2028b", "a\\u007f\\u009b31m\\u2028b"),
        ("half\ud800", "half\\ud800"),
        ("s" * 5000, "s" * 4096 + "…"),
    ],
)
@pytest.mark.parametrize(
    ("constant", "name"),
    [("SUBJECT", "enduser.id"), ("TENANT", "outrigger.tenant"), ("WHY", "outrigger.why"), ("ROUTE", "outrigger.route")],
)
def test_a_text_cannot_break_the_line(constant: str, name: str, subject: str, shown: str) -> None:
    assert line(**{constant: subject})[name] == shown


@given(path=st.binary(), subject=st.text(st.characters(exclude_categories=())), why=st.text(st.characters()))
def test_whatever_comes_is_one_line_of_text(path: bytes, subject: str, why: str) -> None:
    log = AccessLog(1, Registry())
    log.record(entry(PATH=path, SUBJECT=subject, WHY=why))
    drained = log.drain(1).decode()
    assert len(drained.splitlines()) == 1, "also for readers that split at U+0085 and U+2028"
    assert "\x1b" not in drained
    assert json.loads(drained)["outrigger.reason"] == "circuit_open"


def test_time_is_right_for_each_record() -> None:
    log = AccessLog(10, Registry())
    for at in (0.0, 1700000000.5, 1700000000.75, 1700000001.0, 1700000000.5):
        log.record(entry(TIME=at))
    assert [json.loads(one)["time"] for one in log.drain(10).splitlines()] == [
        "1970-01-01T00:00:00.000Z",
        "2023-11-14T22:13:20.500Z",
        "2023-11-14T22:13:20.750Z",
        "2023-11-14T22:13:21.000Z",
        "2023-11-14T22:13:20.500Z",
    ]


def test_a_full_ring_drops_the_new_and_counts() -> None:
    registry = Registry()
    log = AccessLog(3, registry)
    for number in range(5):
        log.record(entry(SUBJECT=str(number)))
    assert (len(log), dropped(registry)) == (3, 2)
    assert [json.loads(one)["enduser.id"] for one in log.drain(10).splitlines()] == ["0", "1", "2"]
    log.record(entry())
    assert (len(log), dropped(registry)) == (1, 2)


def test_drain_takes_no_more_than_asked_oldest_first() -> None:
    log = AccessLog(10, Registry())
    for number in range(5):
        log.record(entry(SUBJECT=str(number)))
    assert [json.loads(one)["enduser.id"] for one in log.drain(2).splitlines()] == ["0", "1"]
    assert [json.loads(one)["enduser.id"] for one in log.drain(9).splitlines()] == ["2", "3", "4"]
    assert log.drain(9) == b""


@pytest.mark.parametrize(
    "broken", [(), (1,), entry(TIME=None), entry(PATH="/text"), entry(CLIENT=object()), entry(TIME=float("inf"))]
)
def test_a_broken_record_never_holds_up_the_others(broken: tuple[Any, ...]) -> None:
    registry = Registry()
    log = AccessLog(10, registry)
    log.record(entry(SUBJECT="before"))
    log.record(broken)
    log.record(entry(SUBJECT="after"))
    assert [json.loads(one)["enduser.id"] for one in log.drain(10).splitlines()] == ["before", "after"]
    assert dropped(registry) == 1


def test_many_different_records_keep_little() -> None:
    log = AccessLog(10, Registry())
    for status in range(5000):
        log.record(entry(STATUS=status))
        assert json.loads(log.drain(1)).get("http.response.status_code", 0) == status
    assert len(log._parts) <= 2048
