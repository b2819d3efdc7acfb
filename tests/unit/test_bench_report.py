"""Medians, targets, tables, page and picture made of a run's samples."""

import json
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import pytest

from bench import chart, report
from bench.procfs import Memory
from bench.results import CaseResult, Failure, Footprint, LatencySample, Results, Sample
from bench.targets import Verdict, verdicts

MACHINE = dict.fromkeys(("cpu", "cores", "kernel", "load", "envoy", "haproxy", "nginx", "wrk", "python", "commit"), "1")


def sample(cpu_us: float, *, rps: float = 20_000.0, busy: float = 1.0) -> Sample:
    return Sample(cpu_us, rps, busy, 40_960, 30_720, 1000, {})


def case(name: str, **cpu_us: Sequence[float]) -> CaseResult:
    return CaseResult(
        name, f"Case {name}", "full", {peer: [sample(v) for v in values] for peer, values in cpu_us.items()}
    )


def run(*cases: CaseResult) -> Results:
    return Results(MACHINE, {"rate": 1000}, "2026-01-01", cases=list(cases))


def whole_run() -> Results:
    results = run(
        case("bare", outrigger=[20, 90, 21], haproxy=[17, 17, 17], direct=[0, 0, 0]),
        case("full", outrigger=[24, 25, 26], envoy=[50, 48, 90]),
    )
    results.latency["full"] = {
        "direct": [LatencySample(0.1, 0.2, 0.3)],
        "outrigger": [LatencySample(0.25, 0.5, 0.9)],
        "envoy": [LatencySample(0.35, 0.45, 0.9)],
    }
    results.footprint["outrigger"] = Footprint.of([0.4, 0.6, 0.5], Memory(46_080, 40_000))
    return results


def test_medians_are_over_the_rounds() -> None:
    results = whole_run()
    assert results.cpu_us("bare", "outrigger") == 21
    assert results.cpu_us("full", "envoy") == 50
    assert results.cpu_us("full", "nginx") is None
    assert results.cpu_us("full-10k", "envoy") is None


def test_a_failed_peer_has_no_number_however_many_rounds_went_well() -> None:
    one = case("full", envoy=[50, 50])
    one.failures["envoy"] = Failure("invalid")
    assert one.median("envoy", "cpu_us") is None


def test_targets_are_ratios_and_differences_within_the_run() -> None:
    judged = {verdict.title: verdict for verdict in verdicts(whole_run())}
    assert [(round(v.value or 0, 3), v.limit and round(v.limit, 3), v.met) for v in judged.values()] == [
        (0.5, 0.6, True),
        (1.235, 1.6, True),
        (0.15, 0.25, True),
        (0.3, 0.25, False),
        (45.0, 45.0, True),
        (0.5, 1.0, True),
    ]


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {verdict.met for verdict in verdicts(run())} == {None}
    failed = whole_run()
    failed.footprint["outrigger"] = Failure("did not start")
    failed.latency["full"]["direct"] = Failure("no answer")
    assert [verdict.met for verdict in verdicts(failed)] == [True, True, None, None, None, None]


@pytest.mark.parametrize(
    ("value", "limit", "start"),
    [(0.5, 0.6, "met "), (0.6, 0.6, "met "), (0.7, 0.6, "NOT MET"), (None, 0.6, "not measured"), (1.0, None, "not m")],
)
def test_verdict_line(value: float | None, limit: float | None, start: str) -> None:
    assert Verdict("thing", value, limit, " s").line().startswith(start)


def test_rate_of_a_proxy_that_was_not_the_limit_is_marked() -> None:
    one = CaseResult("bare", "Bare", "bare", {"nginx": [sample(17, busy=0.5)], "envoy": [sample(50, busy=0.99)]})
    rates = {row[0]: row[3] for row in report.case_table(one).rows}
    assert rates == {"nginx": "≥ 20,000", "envoy": "20,000"}


def test_direct_has_no_cpu_of_its_own() -> None:
    rows = {row[0]: row for row in report.case_table(whole_run().cases[0]).rows}
    assert rows["direct"][1:3] == ("-", "-")
    assert rows["haproxy"][1:3] == ("17.0", "1.24")


def test_policies_alone_are_differences_to_bare() -> None:
    cases = [
        CaseResult("alone-bare", "nothing", "bare", {"outrigger": [sample(20)]}),
        CaseResult("alone-jwt", "cached JWT", "jwt", {"outrigger": [sample(21.5)]}),
        CaseResult("alone-log", "access log", "log", {"outrigger": []}, {"outrigger": Failure("did not start")}),
    ]
    table = report.alone_table(cases)
    assert [row[2] for row in table.rows] == ["+0.0", "+1.5", "-"]
    assert table.notes == ("access log: did not start",)


def test_report_says_why_a_number_is_missing() -> None:
    results = whole_run()
    results.cases[1].failures["envoy"] = Failure("invalid, not every answer was a success: {'status': 3}")
    assert "envoy: invalid, not every answer was a success" in report.text(results)
    assert "NOT MET  added latency p99" in report.text(results)
    assert "| outrigger | 25.0 |" in report.markdown(results)


def test_region_is_replaced_and_nothing_else() -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.replace_region(page, "new")
    assert once == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    assert report.replace_region(once, "new") == once


@pytest.mark.parametrize(
    "page", ["", report.BEGIN, f"{report.END}{report.BEGIN}", f"{report.BEGIN}{report.BEGIN}{report.END}"]
)
def test_a_page_without_its_marks_is_left_alone(page: str) -> None:
    with pytest.raises(ValueError, match="each once"):
        report.replace_region(page, "new")


def test_picture_is_valid_and_to_scale() -> None:
    drawn = chart.groups(whole_run())
    assert [[bar.label for bar in bars] for _, bars in drawn] == [["haproxy", "outrigger"], ["outrigger", "envoy"]]
    root = ET.fromstring(chart.svg(drawn))
    widths = [float(rect.attrib["width"]) for rect in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[2] / widths[3] == pytest.approx(25 / 50, rel=0.01)
    assert max(widths) < 720


def test_picture_of_nothing_is_still_a_picture() -> None:
    assert ET.fromstring(chart.svg([])).tag.endswith("svg")


def test_results_are_json() -> None:
    back = json.loads(json.dumps(whole_run().plain()))
    assert back["cases"][1]["samples"]["envoy"][0]["cpu_us"] == 50
    assert back["footprint"]["outrigger"]["start_s"] == 0.5
