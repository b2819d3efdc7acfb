"""The sidecar's own log: levels, masks, exceptions, repetition."""

import asyncio
import json
import logging
from typing import Any

import pytest

from agent.telemetry.process_log import LEVELS, ProcessLog, StandardHandler


class Sink:
    """Collects lines, with a clock that moves by hand."""

    def __init__(self, **options: Any) -> None:
        self.raw: list[bytes] = []
        self.now = 100.0
        self.log = ProcessLog(
            self.raw.append,
            service="orders",
            monotonic=lambda: self.now,
            wall=lambda: 1700000000.125,
            **options,
        )
        self.logger = self.log.logger("proxy")

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]


def test_a_line_in_full() -> None:
    sink = Sink()
    sink.logger.info("listening", host="127.0.0.1", port=8080, tls=None, ratio=0.5)
    assert sink.raw[0].endswith(b"}\n")
    assert sink.lines == [
        {
            "time": "2023-11-14T22:13:20.125Z",
            "level": "info",
            "service": "orders",
            "logger": "proxy",
            "message": "listening",
            "host": "127.0.0.1",
            "port": 8080,
            "tls": None,
            "ratio": 0.5,
        }
    ]


@pytest.mark.parametrize("threshold", list(LEVELS))
def test_the_level_changes_while_running(threshold: str) -> None:
    sink = Sink(level="error")
    sink.log.level = threshold
    for level in LEVELS:
        getattr(sink.logger, level)(f"at {level}")
    names = list(LEVELS)
    assert [line["level"] for line in sink.lines] == names[names.index(threshold) :]
    assert sink.log.level == threshold


def test_an_unknown_level_is_refused_with_the_choice() -> None:
    sink = Sink()
    with pytest.raises(ValueError, match="'verbose' is no log level: choose one of debug, info, warning, error"):
        sink.log.level = "verbose"
    assert sink.log.level == "info"


@pytest.mark.parametrize(
    ("key", "masked"),
    [
        ("token", True),
        ("tokens", True),
        ("access_token", True),
        ("refreshToken", True),
        ("X-Auth-Token", True),
        ("ACCESS_TOKEN", True),
        ("password", True),
        ("db_password_old", True),
        ("Passwords", True),
        ("authorization", True),
        ("Proxy-Authorization", True),
        ("set-cookie", True),
        ("cookies", True),
        ("client_secret", True),
        ("clientSecret", True),
        ("api_key", True),
        ("x-api-key", True),
        ("apiKey", True),
        ("apikey", True),
        ("session_id", True),
        ("пароль", True),
        ("tokens_verified", False),
        ("tokenizer", False),
        ("key", False),
        ("api", False),
        ("session", False),
        ("", False),
        ("user", False),
    ],
)
def test_masked_keys_at_every_depth(key: str, masked: bool) -> None:
    sink = Sink(mask=["session_id", "пароль"])
    sink.logger.info("x", **{key or "empty": "hunter2"})
    sink.logger.info("x", headers={key: "hunter2"}, deep=[{"a": ({key: {"value": "hunter2"}},)}])
    assert [b"hunter2" in raw for raw in sink.raw] == [not masked] * 2
    if masked:
        assert sink.lines[0][key] == "***"
        assert sink.lines[1]["headers"] == {key: "***"}


def test_masks_change_while_running_but_the_built_in_ones_stay() -> None:
    sink = Sink(mask=["ssn"])
    sink.log.mask(["iban"])
    sink.logger.info("x", ssn="1", iban="2", token="3")
    assert (sink.lines[0]["ssn"], sink.lines[0]["iban"], sink.lines[0]["token"]) == ("1", "***", "***")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://ann:hunter2@db:5432/shop", "postgres://***@db:5432/shop"),
        ("amqp://ann@mq", "amqp://***@mq"),
        ("sent Authorization: Bearer abc.def-ghi", "sent Authorization: Bearer ***"),
        ("basic aHVudGVyMg== refused", "basic *** refused"),
        ("http://host/path?mail=a@b", "http://host/path?mail=a@b"),
        ("ann@example.com wrote", "ann@example.com wrote"),
    ],
)
def test_credentials_inside_texts(text: str, shown: str) -> None:
    sink = Sink()
    sink.logger.error(text, url=text, nested=[text], exception=RuntimeError(text))
    line = sink.lines[0]
    assert [line["message"], line["url"], line["nested"], line["exception"]["message"]] == [
        shown,
        shown,
        [shown],
        shown,
    ]


def test_names_of_our_own_fields_are_not_overwritten() -> None:
    sink = Sink()
    sink.logger.info("x", level="fake", time="fake", logger="fake", repeated=7)
    line = sink.lines[0]
    assert (line["level"], line["logger"], line["level_"], line["repeated_"]) == ("info", "proxy", "fake", 7)
    assert "repeated" not in line


class Wordless:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**64, str(2**64)),
        (-(2**63), -(2**63)),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (b"\xffbytes", "\\xffbytes"),
        ("half\ud800", "half\\ud800"),
        ("a\nb\x9b\u2028", "a\nb\\u009b\\u2028"),
        ({1: {2, }}, {"1": [2]}),
        (Wordless(), "<Wordless without text>"),
        (frozenset(), []),
        (True, True),
    ],
)  # fmt: skip
def test_any_value_can_be_logged(value: Any, shown: Any) -> None:
    sink = Sink()
    sink.logger.info("x", value=value)
    assert sink.lines[0]["value"] == shown
    assert len(sink.raw[0].decode().splitlines()) == 1


def test_values_are_bounded() -> None:
    endless: list[Any] = []
    endless.extend([endless] * 100)
    sink = Sink()
    sink.logger.info("x", endless=endless, long="y" * 10_000, wide={str(n): n for n in range(10_000)})
    assert len(sink.raw[0]) < 12_000
    assert sink.lines[0]["wide"]["…"] == "…"
    assert sink.lines[0]["wide"]["255"] == 255


def test_an_exception_is_a_structure() -> None:
    def inner() -> None:
        raise KeyError("missing")

    try:
        try:
            inner()
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError as error:
        caught = error
    sink = Sink()
    sink.logger.error("failed", exception=caught)
    shown = sink.lines[0]["exception"]
    assert (shown["type"], shown["message"]) == ("ValueError", "outer")
    frame = shown["frames"][-1]
    assert frame["file"] == __file__
    assert frame["function"] == "test_an_exception_is_a_structure"
    assert shown["cause"]["type"] == "KeyError"
    assert shown["cause"]["frames"][-1]["function"].endswith("inner")
    assert shown["cause"]["frames"][-1]["line"] == inner.__code__.co_firstlineno + 1


def test_deep_and_grouped_exceptions_are_bounded() -> None:
    def deeper(n: int) -> None:
        if n == 0:
            raise ExceptionGroup("many", [ValueError(str(number)) for number in range(100)])
        deeper(n - 1)

    try:
        deeper(300)
    except ExceptionGroup as error:
        caught = error
    sink = Sink()
    sink.logger.error("failed", exception=caught)
    shown = sink.lines[0]["exception"]
    assert len(shown["frames"]) == 20
    assert [one["message"] for one in shown["errors"]] == ["0", "1", "2", "3"]


def test_repetition_is_summed_up_when_the_window_ends() -> None:
    sink = Sink(repeat_limit=3, window_s=10)
    for number in range(8):
        sink.logger.warning("upstream refused", attempt=number)
    sink.logger.warning("something else")
    sink.now += 9.9
    sink.log.tick()
    assert [line["message"] for line in sink.lines] == ["upstream refused"] * 3 + ["something else"]
    sink.now += 0.1
    sink.log.tick()
    assert sink.lines[4:] == [
        {
            "time": "2023-11-14T22:13:20.125Z",
            "level": "warning",
            "service": "orders",
            "logger": "proxy",
            "message": "upstream refused",
            "repeated": 5,
        }
    ]
    sink.logger.warning("upstream refused")
    assert len(sink.raw) == 6


def test_a_new_window_first_sums_up_the_old() -> None:
    sink = Sink(repeat_limit=1, window_s=10)
    for _ in range(3):
        sink.logger.info("again")
    sink.now += 10
    sink.logger.info("again")
    assert [line.get("repeated") for line in sink.lines] == [None, 2, None]


def test_repetition_counts_by_level_and_logger() -> None:
    sink = Sink(repeat_limit=1)
    sink.logger.info("same")
    sink.logger.error("same")
    sink.log.logger("other").info("same")
    assert len(sink.raw) == 3


def test_what_the_level_hides_is_no_repetition() -> None:
    sink = Sink(repeat_limit=1, level="error")
    sink.logger.info("same")
    sink.log.level = "info"
    sink.logger.info("same")
    assert len(sink.raw) == 1


def test_flush_loses_no_count() -> None:
    sink = Sink(repeat_limit=1)
    for _ in range(3):
        sink.logger.info("same")
    sink.log.flush()
    sink.log.flush()
    assert [line.get("repeated") for line in sink.lines] == [None, 2]


def test_endless_variety_is_bounded_and_loses_no_count() -> None:
    sink = Sink(repeat_limit=1)
    for _ in range(3):
        sink.logger.info("first")
    for number in range(2000):
        sink.log.log("info", "proxy", f"variety {number}", {})
    assert len(sink.log._bursts) <= 512
    assert [line["repeated"] for line in sink.lines if "repeated" in line] == [2]


def test_libraries_that_log_the_standard_way() -> None:
    sink = Sink()
    logger = logging.Logger("lib", level=logging.DEBUG)  # noqa: LOG001  not to be left in the global tree
    logger.addHandler(StandardHandler(sink.log))
    logger.debug("hidden")
    logger.warning("took %s for bearer abc", "2 s")
    logger.critical("bad %d", "arguments")
    try:
        raise RuntimeError("inside")
    except RuntimeError:
        logger.exception("failed")
    assert [(line["level"], line["logger"], line["message"]) for line in sink.lines] == [
        ("warning", "lib", "took 2 s for bearer ***"),
        ("error", "lib", "bad %d"),
        ("error", "lib", "failed"),
    ]
    assert sink.lines[2]["exception"]["type"] == "RuntimeError"


async def test_a_lost_error_of_asyncio_reaches_the_log() -> None:
    sink = Sink()
    handler = StandardHandler(sink.log)
    logging.getLogger("asyncio").addHandler(handler)
    try:
        asyncio.get_running_loop().call_exception_handler({"message": "lost", "exception": ValueError("why")})
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    assert sink.lines[0]["logger"] == "asyncio"
    assert sink.lines[0]["exception"]["message"] == "why"
