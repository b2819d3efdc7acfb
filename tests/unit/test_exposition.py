"""What scrapers read, judged by the parsers of prometheus_client."""

from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from agent.telemetry.exposition import OPENMETRICS, SERIES_PER_PART, TEXT, choose, parts, render
from agent.telemetry.metrics import Registry

NASTY = 'a"b\\c\nd,e}f{=é'


def parse(body: bytes, openmetrics: bool) -> list[Any]:
    parser = parse_openmetrics if openmetrics else parse_text
    return list(parser(body.decode()))


def samples(families: Iterable[Any]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {(sample.name, frozenset(sample.labels.items())): sample.value for one in families for sample in one.samples}


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.info = {"service_name": "orders", "service_version": '1 "beta"', "deployment_environment_name": "dev"}
    registry.counter("outrigger_requests_total", 'Requests \\ with\nbreaks and "quotes".', ("path",)).at(NASTY)[0] += 3
    registry.counter("outrigger_sent_bytes_total", "Bytes.").at()[0] += 2**60
    registry.gauge("outrigger_open", "Open.", ("side",)).at("in")[0] = 1.5
    registry.gauge("outrigger_open", "Open.", ("side",)).at("out")[0] = float("inf")
    registry.gauge("outrigger_open", "Open.", ("side",)).at("none")[0] = float("-inf")
    registry.gauge("outrigger_ready", "Ready.").watch(lambda: True)
    cell = registry.histogram("wait_seconds", "Wait.", ("route",), (0.1, 1.0)).at(NASTY)
    cell[0], cell[1], cell[2], cell[3] = 2, 1, 4, 9.25
    registry.histogram("size_bytes", "Size.", (), (1000.0, 1e6, 1.048576e6)).at()[0] += 1
    registry.counter("never_total", "Declared but never asked for.", ("x",))
    return registry


@pytest.mark.parametrize("openmetrics", [False, True])
def test_both_formats_mean_the_same_to_a_parser(registry: Registry, openmetrics: bool) -> None:
    found = samples(parse(render(registry.snapshot(), openmetrics), openmetrics))
    nasty = ("path", NASTY)
    assert found["outrigger_requests_total", frozenset({nasty})] == 3
    assert found["outrigger_sent_bytes_total", frozenset()] == 2**60
    assert found["outrigger_open", frozenset({("side", "in")})] == 1.5
    assert found["outrigger_open", frozenset({("side", "out")})] == float("inf")
    assert found["outrigger_open", frozenset({("side", "none")})] == float("-inf")
    assert found["outrigger_ready", frozenset()] == 1
    route = ("route", NASTY)
    buckets = {le: found["wait_seconds_bucket", frozenset({route, ("le", le)})] for le in ("0.1", "1.0", "+Inf")}
    assert buckets == {"0.1": 2, "1.0": 3, "+Inf": 7}
    assert found["wait_seconds_sum", frozenset({route})] == 9.25
    assert found["wait_seconds_count", frozenset({route})] == 7
    for le in ("1000.0", "1e+06", "1.048576e+06", "+Inf"):
        assert found["size_bytes_bucket", frozenset({("le", le)})] == 1
    who = {"service_name": "orders", "service_version": '1 "beta"', "deployment_environment_name": "dev"}
    assert found["target_info", frozenset(who.items())] == 1


def test_openmetrics_families(registry: Registry) -> None:
    families = {one.name: one for one in parse(render(registry.snapshot(), True), True)}
    assert families["outrigger_requests"].type == "counter"
    assert families["outrigger_requests"].documentation == 'Requests \\ with\nbreaks and "quotes".'
    assert families["outrigger_sent_bytes"].unit == "bytes"
    assert families["wait_seconds"].unit == "seconds"
    assert families["outrigger_open"].unit == ""
    assert families["target"].type == "info"
    assert "never" not in families


def test_prometheus_families(registry: Registry) -> None:
    families = {one.name: one for one in parse(render(registry.snapshot(), False), False)}
    assert families["outrigger_requests"].documentation == 'Requests \\ with\nbreaks and "quotes".'
    assert families["target_info"].type == "gauge"
    assert families["wait_seconds"].type == "histogram"


def test_only_openmetrics_has_units_and_an_end(registry: Registry) -> None:
    text, opened = render(registry.snapshot(), False), render(registry.snapshot(), True)
    assert b"# UNIT" not in text
    assert b"# EOF" not in text
    assert opened.endswith(b"\n# EOF\n")
    assert opened.count(b"# EOF") == 1
    assert text.endswith(b"\n")


def test_nothing_measured_is_still_a_valid_exposition() -> None:
    assert render({"info": {}, "families": []}, True) == b"# EOF\n"
    assert render({"info": {}, "families": []}, False) == b""


@pytest.mark.parametrize("openmetrics", [False, True])
def test_parts_are_bounded_and_make_the_whole(openmetrics: bool) -> None:
    registry = Registry()
    counter = registry.counter("many_total", "Many.", ("n",))
    for number in range(3 * SERIES_PER_PART + 1):
        counter.at(str(number))[0] = number
    snapshot = registry.snapshot()
    pieces = list(parts(snapshot, openmetrics))
    assert b"".join(pieces) == render(snapshot, openmetrics)
    assert max(piece.count(b"many_total{") for piece in pieces) == SERIES_PER_PART
    found = samples(parse(b"".join(pieces), openmetrics))
    assert all(found["many_total", frozenset({("n", str(n))})] == n for n in range(3 * SERIES_PER_PART + 1))


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0", True),
        ('application/openmetrics-text; version="1.0.0", text/plain', True),
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/plain", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.9", False),
        ("application/openmetrics-text;q=nonsense", False),
        (";;;,=,q=", False),
    ],
)
def test_choice_of_format(accept: str, openmetrics: bool) -> None:
    assert choose(accept) == ((OPENMETRICS, True) if openmetrics else (TEXT, False))
