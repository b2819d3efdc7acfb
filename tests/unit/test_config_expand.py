"""References inside values: what they become, what is secret, and what is wrong with them."""

from pathlib import Path
from typing import Any

import pytest

from agent.config.document import Document, read_document
from agent.config.expand import MAX_SECRET_BYTES, Expander

ENVIRON = {"PORT": "8080", "EMPTY": "", "DB_PASSWORD": "hunter22", "EVIL": "x\nadmin: {token: ''}"}


def expand(text: str, directory: Path = Path()) -> tuple[Document, Expander]:
    document = read_document(text, "f.yaml")
    expander = Expander(document, ENVIRON, directory)
    expander.expand()
    return document, expander


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${PORT}", "8080"),
        ("http://h:${PORT}/", "http://h:8080/"),
        ("${PORT}${PORT}", "80808080"),
        ("${MISSING:-9}", "9"),
        ("${EMPTY:-9}", "9"),
        ("${EMPTY}", ""),
        ("${MISSING:-}", ""),
        ("${MISSING:-http://a:1}", "http://a:1"),
        ("$$", "$"),
        ("$${PORT}", "${PORT}"),
        ("$$$${PORT}", "$${PORT}"),
        ("^a$", "^a$"),
        ("$5", "$5"),
        ("$PORT", "$PORT"),
    ],
)
def test_what_references_become(text: str, value: str) -> None:
    document, _ = expand(f'key: "{text}"')
    assert (document.data, document.faults) == ({"key": value}, [])


def test_a_value_cannot_inject_yaml() -> None:
    document, _ = expand("service: {name: ${EVIL}}".replace("${EVIL}", '"${EVIL}"'))
    assert document.data == {"service": {"name": "x\nadmin: {token: ''}"}}


def test_values_are_not_expanded_again() -> None:
    document = read_document("a: ${LOOP}", "f.yaml")
    Expander(document, {"LOOP": "${LOOP}"}, Path()).expand()
    assert document.data == {"a": "${LOOP}"}


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"s3cret\n", "s3cret"), (b"s3cret", "s3cret"), (b"s3cret\r\n", "s3cret"), (b"a\n\n", "a\n"), (b"\n", "")],
)
def test_a_file_loses_one_line_break_and_is_secret(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "key").write_bytes(content)
    document, expander = expand(f"a: [x, '${{file:{tmp_path}/key}}']")
    assert document.data == {"a": ["x", value]}
    assert document.secrets == {("a", 1): value}
    assert expander.files == [tmp_path / "key"]


def test_a_relative_file_starts_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s")
    document, _ = expand("a: ${file:key}", tmp_path)
    assert document.data == {"a": "s"}


def test_secret_sounding_variables_are_secret() -> None:
    document, _ = expand("dsn: postgres://u:${DB_PASSWORD}@h\nport: ${PORT}")
    assert document.secrets == {("dsn",): "postgres://u:hunter22@h"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${MISSING}", ["MISSING is not set", "${MISSING:-…}"]),
        ("${POTR}", ["POTR is not set", "`PORT`"]),
        ("${}", ["no reference", "${NAME}"]),
        ("${1A}", ["no reference"]),
        ("${PORT-1}", ["no reference"]),
        ("${PORT:?x}", ["no reference"]),
        ("${PORT", ["without its `}`", "$$"]),
        ("${file:/does/not/exist}", ["/does/not/exist", "No such file"]),
        ("${file:/}", ["can't be read", "directory"]),
        ("${file:a\\0b}", ["can't be read"]),
    ],
)
def test_what_is_wrong_with_references(text: str, words: list[str]) -> None:
    document, expander = expand(f'a:\n  b: "{text}"\n')
    (finding,) = [document.locate(fault) for fault in document.faults]
    assert (finding.path, finding.line, finding.column) == ("a.b", 2, 6)
    assert [word for word in words if word not in finding.message + finding.remedy] == []
    assert expander.failed == {("a", "b")}


@pytest.mark.parametrize(
    ("content", "word"), [(b"\xff\xfe", "not UTF-8"), (b"x" * (MAX_SECRET_BYTES + 1), "larger than")]
)
def test_files_that_are_no_secrets(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "key").write_bytes(content)
    document, _ = expand("a: ${file:key}", tmp_path)
    assert word in document.faults[0].message


def test_keys_are_not_expanded_but_refused() -> None:
    document, _ = expand("routes:\n  ${PORT}: 1\n")
    (finding,) = [document.locate(fault) for fault in document.faults]
    assert (finding.line, finding.message) == (2, "keys aren't expanded")


def test_all_faults_are_found_at_once() -> None:
    document, _ = expand("a: ${A}\nb: [${B}, ok]\nc: {d: ${C}}\n".replace("${", '"${').replace("}", '}"', 3))
    assert len(document.faults) == 3


def test_numbers_and_truth_values_pass() -> None:
    value: dict[str, Any] = {"a": 1, "b": True, "c": None, "d": 1.5}
    document, _ = expand("{a: 1, b: true, c: null, d: 1.5}")
    assert document.data == value
