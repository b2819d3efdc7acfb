"""YAML in, data and places out: what is refused, what it means, and where it stands."""

from typing import Any

import pytest

from agent.config.document import MAX_NODES, Document, read_document
from agent.config.errors import Finding


def findings(document: Document) -> list[Finding]:
    return [document.locate(fault) for fault in document.faults]


def read(text: str) -> Any:
    document = read_document(text, "f.yaml")
    assert document.faults == []
    return document.data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8080", 8080),
        ("-1", -1),
        ("+5", 5),
        ("0123", 123),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.10", 1.1),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("'8080'", "8080"),
        ('"true"', "true"),
        ("12:30:00", "12:30:00"),
        ("2024-01-31", "2024-01-31"),
        ("0x1F", "0x1F"),
        (".inf", ".inf"),
        ("9" * 400, "9" * 400),
        ("=", "="),
        ("10.0.0.0/8", "10.0.0.0/8"),
    ],
)
def test_scalars_are_read_as_yaml_1_2_says(text: str, value: Any) -> None:
    found = read(f"key: {text}\n")["key"]
    assert (found, type(found)) == (value, type(value))


def test_block_text_is_text_even_if_it_looks_like_a_number() -> None:
    assert read("key: |\n  5\n")["key"] == "5\n"


def test_keys_are_text_so_that_on_is_a_key() -> None:
    assert read("retry: {on: [502], attempts: 2}\n200: x\ntrue: y\n") == {
        "retry": {"on": [502], "attempts": 2},
        "200": "x",
        "true": "y",
    }


def test_places_of_keys_and_values() -> None:
    document = read_document("app:\n  url: http://x\nroutes:\n  - name: a\n    tags: [x, y]\n", "f.yaml")
    assert document.keys["app", "url"] == (2, 3)
    assert document.values["app", "url"] == (2, 8)
    assert document.values["routes", 0] == (4, 5)
    assert document.values["routes", 0, "tags", 1] == (5, 15)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", (3, 1), ["given twice", "line 1"]),
        ("a:\n  x: 1\n  x: 1\n", (3, 3), ["given twice", "line 2"]),
        ("a: 1\n\tb: 2\n", (2, 1), ["tab", "spaces"]),
        ("a:\n  \tb: 2\n  c: 1", (2, 3), ["tab", "spaces"]),
        ("a: b: c\n", (1, 5), ["mapping values", "quotes"]),
        ("a: 1\n---\nb: 2\n", (2, 1), ["more than one document"]),
        ("a: *nowhere\n", (1, 4), ["no anchor `nowhere`"]),
        ("a: &a [*a]\n", (1, 4), ["contains itself"]),
        ("a: 'open\n", (2, 1), ["not YAML"]),
        ("a: [1, 2\n", (2, 1), ["not YAML"]),
        ("a: {{ x }}\n", (1, 4), ["key must be text", "quotes"]),
        ("a: !!python/object:os.system {}\n", (1, 4), ["tag", "means nothing"]),
        ("a: !env HOME\n", (1, 4), ["!env"]),
        ("b: {<<: 5}\n", (1, 4), ["takes a mapping"]),
        ("[" * 100_000, (1, 65), ["deeper than 64"]),
        ("- " * 5000, (1, 129), ["deeper than 64"]),
    ],
)
def test_what_is_refused_and_where(text: str, place: tuple[int, int], words: list[str]) -> None:
    found = findings(read_document(text, "f.yaml"))
    assert len(found) == 1, found
    assert (found[0].line, found[0].column) == place
    said = found[0].message + found[0].remedy
    assert [word for word in words if word not in said] == []


def test_control_characters_are_refused() -> None:
    assert "control characters" in findings(read_document("a: \x01", "f.yaml"))[0].message


def test_an_anchor_bomb_stops_early() -> None:
    lines = ["b0: &b0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 12)]
    found = findings(read_document("\n".join(lines), "f.yaml"))
    assert [f"beyond {MAX_NODES}" in finding.message for finding in found] == [True]


def test_a_chain_of_aliases_cannot_exhaust_the_stack() -> None:
    lines = [f"b{i}: &b{i} [{'x' if i == 0 else f'*b{i - 1}'}]" for i in range(5000)]
    found = findings(read_document("\n".join(lines), "f.yaml"))
    assert ["aliases nest deeper" in finding.message for finding in found] == [True]


def test_a_bomb_of_merge_keys_stops_too() -> None:
    lines = ["b0: &b0 {x: 1}"] + [
        f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 9)}], k{i}: 1}}" for i in range(1, 12)
    ]
    document = read_document("\n".join(lines), "f.yaml")
    assert len(document.values) <= MAX_NODES


def test_aliases_and_merge_keys() -> None:
    data = read(
        "x-d: &d {timeout_s: 2, tries: 1}\nx-e: &e {tries: 5, name: e}\n"
        "a: *d\nb: {<<: *d, tries: 3}\nc: {<<: [*d, *e]}\nd: {'<<': text}\n"
    )
    assert data["a"] == {"timeout_s": 2, "tries": 1}
    assert data["b"] == {"timeout_s": 2, "tries": 3}
    assert data["c"] == {"timeout_s": 2, "tries": 1, "name": "e"}
    assert data["d"] == {"<<": "text"}


def test_a_file_that_is_too_large_is_not_parsed() -> None:
    found = findings(read_document("a: " + "x" * (8 * 1024 * 1024), "f.yaml"))
    assert "larger than 8 MiB" in found[0].message


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert read("") == {}
    assert read("# nothing\n") == {}
