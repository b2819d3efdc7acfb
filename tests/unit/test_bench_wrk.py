"""Command line and output of wrk."""

from pathlib import Path

import pytest

from bench.wrk import Load, LoadError, command, parse

OUTPUT = """Running 5s test @ http://127.0.0.1:1/orders/42
  1 threads and 64 connections
Requests/sec:  19987.00

BENCH {"requests": 100000, "duration_us": 5000000, "bytes": 9, "connect": 0, "read": 0, "write": 0, STATUS}
"""


def output(status: int = 0, timeout: int = 0) -> str:
    return OUTPUT.replace("STATUS", f'"status": {status}, "timeout": {timeout}')


def test_clean_run() -> None:
    report = parse(output())
    assert (report.requests, report.duration_s, report.rps, report.errors) == (100_000, 5.0, 20_000.0, {})


def test_errors_are_kept_by_kind() -> None:
    assert parse(output(status=3, timeout=2)).errors == {"status": 3, "timeout": 2}


def test_no_time_is_no_rate() -> None:
    assert parse(output().replace("5000000", "0")).rps == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "said: nothing"),
        ("unable to connect to 127.0.0.1:1 Connection refused", "Connection refused"),
        ('BENCH {"requests": 1', "can't be read"),
        ('BENCH {"requests": 1}', "can't be read"),
        ("BENCH []", "can't be read"),
    ],
)
def test_anything_else_is_an_error_that_shows_it(text: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        parse(text)


def test_command_carries_headers_method_body_and_tokens() -> None:
    load = Load("http://h/x", 5.0, 1000, "POST", 65536, {"Host": "a", "Accept": "b"}, Path("/t"))
    words = command(load)
    assert words[:7] == ["wrk", "-t", "1", "-c", "1000", "-d", "5s"]
    assert words[-9:] == ["-H", "Host: a", "-H", "Accept: b", "http://h/x", "--", "POST", "65536", "/t"]


def test_wrk_takes_whole_seconds_and_at_least_one() -> None:
    assert "1s" in command(Load("http://h", 0.2))
    assert command(Load("http://h", 0.2))[-3:] == ["GET", "0", "-"]
