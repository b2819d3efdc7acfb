"""Whatever stands in the file: a configuration or findings that can be shown, never another error."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.errors import ConfigError
from agent.config.load import loads

FULL = (Path(__file__).parents[2] / "config" / "full.yaml").read_text()
DATA = yaml.safe_load(FULL.replace(" on: ", " 'on': "))

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["none", "app", "${X}", "$"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def judge(text: str) -> None:
    try:
        config = loads(text, file="f.yaml", environ={})
    except ConfigError as error:
        said = str(error)
    else:
        config.view()
        said = f"error {config.fingerprint}"
    assert "error" in said.splitlines()[-1]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(FULL) - 1), st.integers(0, 12), st.text("\t\n {}[]:,-&*!#$'\"ab1", max_size=4))
def test_a_spoilt_file(start: int, length: int, new: str) -> None:
    judge(FULL[:start] + new + FULL[start + length :])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_spoilt_value(data: st.DataObject) -> None:
    spoilt: Any = yaml.safe_load(yaml.safe_dump(DATA))
    place = spoilt
    while True:
        step = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[step]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            place[step] = data.draw(VALUES)
            break
        place = inner
    judge(yaml.safe_dump(spoilt))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    judge(text)
