"""The bench takes another Python only where it is clearly faster."""

import sys
from pathlib import Path

import pytest

from bench.interpreter import candidates, choose, environment_of, time_of

OWN, OTHER, THIRD = Path("/own"), Path("/other"), Path("/third")


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ([(OWN, 1.0)], OWN),
        ([(OWN, 1.0), (OTHER, 0.97)], OWN),
        ([(OWN, 1.0), (OTHER, 0.8)], OTHER),
        ([(OWN, 1.0), (OTHER, 0.8), (THIRD, 0.7)], THIRD),
        ([(OWN, 1.0), (OTHER, float("inf"))], OWN),
        ([(OWN, 0.5), (OTHER, 0.8)], OWN),
    ],
)
def test_choice(times: list[tuple[Path, float]], chosen: Path) -> None:
    assert choose(times) == chosen


def test_the_running_interpreter_is_the_first_candidate_and_can_be_timed() -> None:
    first = candidates()[0]
    assert first.name.startswith("python3")
    assert 0 < time_of(Path(sys.executable)) < 9


def test_what_is_no_interpreter_is_never_faster() -> None:
    assert time_of(Path("/bin/false")) == float("inf")


def test_each_interpreter_has_an_environment_of_its_own(tmp_path: Path) -> None:
    assert environment_of(OWN, tmp_path) != environment_of(OTHER, tmp_path)
