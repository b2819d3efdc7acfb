"""Order of measurements, and that one peer's failure costs the others nothing. No load: the meter is a stand-in."""

from pathlib import Path

import pytest

from bench import peers, process, tokens
from bench.__main__ import arguments, cores, plan_of, sections_of
from bench.cases import ALONE, CASES, SECTIONS, Case
from bench.outrigger_config import VARIANTS
from bench.results import Sample
from bench.runner import Plan, Runner

GOOD = Sample(20.0, 1000.0, 1.0, 1, 1, 10, {})


class StandIn(peers.Peer):
    """A peer that starts nothing and writes down what happened to it."""

    events: list[str] = []
    broken = False

    def start(self) -> int:
        self.events.append(f"start {self.name}")
        return 1

    def ready(self) -> float:
        if self.broken:
            raise process.StartError(f"{self.name} ended with status 1: no such file")
        return 0.1

    def check_policies(self) -> None:
        self.events.append(f"check {self.name}")

    def stop(self) -> None:
        self.events.append(f"stop {self.name}")

    def command(self, folder: Path) -> list[str]:
        raise NotImplementedError


class Meter(Runner):
    """Measures nothing, but in the runner's order."""

    bad: dict[str, Sample] = {}

    def _measure(self, case: Case, peer: peers.Peer, warm_s: float) -> Sample:
        StandIn.events.append(f"measure {peer.name} {warm_s:g}")
        return self.bad.get(peer.name, GOOD)


@pytest.fixture
def meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meter:
    made = {name: type(name, (StandIn,), {"name": name}) for name in ("a", "b", "c")}
    monkeypatch.setattr(peers, "PEERS", made)
    monkeypatch.setattr(StandIn, "events", [])
    monkeypatch.setattr(Meter, "bad", {})
    credentials = tokens.Credentials(tmp_path, tmp_path, "", tmp_path)
    setting = peers.Setting(tmp_path, tmp_path, 1, credentials, 0)
    return Meter(setting, Plan(rounds=2, peers=frozenset(made)), 1, say=lambda _: None)


def test_rounds_are_interleaved_and_later_ones_warm_up_less(meter: Meter) -> None:
    result = meter.case(Case("x", "X", "full", ("a", "b")))
    measured = [event for event in StandIn.events if event.startswith("measure")]
    assert measured == ["measure a 2", "measure b 2", "measure a 1", "measure b 1"]
    assert {name: len(samples) for name, samples in result.samples.items()} == {"a": 2, "b": 2}


def test_everything_that_started_is_stopped(meter: Meter) -> None:
    StandIn.events.clear()
    meter.case(Case("x", "X", "full", ("a", "b")))
    assert [event for event in StandIn.events if event.startswith("st")] == ["start a", "start b", "stop b", "stop a"]


def test_fresh_tokens_need_a_fresh_proxy_each_round(meter: Meter) -> None:
    meter.case(Case("x", "X", "full", ("a",), fresh_tokens=True))
    assert StandIn.events == ["start a", "check a", "measure a 2", "stop a"] * 2


def test_a_peer_that_does_not_start_is_recorded_and_the_others_go_on(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers.PEERS["a"], "broken", True)
    result = meter.case(Case("x", "X", "full", ("a", "b")))
    assert "no such file" in result.failures["a"].why
    assert result.median("a", "cpu_us") is None
    assert result.median("b", "cpu_us") == 20.0
    assert "stop a" in StandIn.events


def test_answers_that_failed_make_the_case_invalid(meter: Meter) -> None:
    Meter.bad = {"b": Sample(1.0, 1.0, 1.0, 1, 1, 10, {"status": 10})}
    result = meter.case(Case("x", "X", "full", ("a", "b")))
    assert "invalid" in result.failures["b"].why
    assert len(result.samples["b"]) == 1
    assert result.median("b", "cpu_us") is None


def test_several_cases_share_their_rounds(meter: Meter) -> None:
    meter.together([Case("x", "X", "bare", ("a",)), Case("y", "Y", "full", ("b",))])
    measured = [event.split()[1] for event in StandIn.events if event.startswith("measure")]
    assert measured == ["a", "b", "a", "b"]


def test_only_chosen_peers_take_part(meter: Meter) -> None:
    meter.plan = Plan(rounds=1, peers=frozenset({"b"}))
    assert list(meter.case(Case("x", "X", "full", ("a", "b", "c"))).samples) == ["b"]


def test_cases_name_variants_that_their_peers_have() -> None:
    for case in (*CASES, *ALONE):
        for name in case.peers:
            assert name == "direct" or case.variant in peers.PEERS[name].variants, (case.name, name)
    assert {case.variant for case in ALONE} == set(VARIANTS)
    assert len({case.name for case in (*CASES, *ALONE)}) == len(CASES) + len(ALONE)


def test_quick_is_one_short_round_of_the_essentials() -> None:
    chosen = arguments(["--quick"])
    plan = plan_of(chosen)
    assert (plan.rounds, plan.measured_s, set(plan.peers)) == (1, 2.0, {"outrigger", "envoy", "haproxy"})
    assert sections_of(chosen) == ("bare", "full")


def test_command_line_narrows_a_run() -> None:
    chosen = arguments(["--only", "latency", "--peers", "envoy,direct", "--rounds", "5", "--seconds", "2.5"])
    plan = plan_of(chosen)
    assert (plan.rounds, plan.measured_s, set(plan.peers)) == (5, 2.5, {"envoy", "direct"})
    assert sections_of(chosen) == ("latency",)
    assert sections_of(arguments([])) == SECTIONS


@pytest.mark.parametrize("words", [["--only", "nothing"], ["--peers", "envoy,apache"]])
def test_unknown_names_are_refused_with_the_known_ones(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
    assert "envoy" in capsys.readouterr().err or words[0] == "--only"


@pytest.mark.parametrize(
    ("usable", "expected"), [({0, 1}, (0, 1, 1)), ({2, 5, 7}, (2, 5, 7)), ({0, 1, 2, 3}, (0, 1, 2))]
)
def test_the_proxy_has_a_core_for_itself(
    usable: set[int], expected: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: usable)
    assert cores() == expected
