"""Compact JWS and its JSON: whatever isn't exactly one thing is refused with a reason."""

import json

import pytest

from agent.wire.jws import JwsError, decode_segment, read_header, read_object, read_payload, split_token
from tests.kit.tokens import b64


def test_three_parts() -> None:
    jws = split_token(b"aa.bb.cc")
    assert jws == (b"aa", b"bb", b"cc", b"aa.bb")


@pytest.mark.parametrize(
    "token", [b"", b"a", b"a.b", b"a.b.c.d", b"a.b.c.", b".b.c", b"a..c", b"a.b.", b"..", b"." * 8000]
)
def test_anything_but_three_parts_is_refused(token: bytes) -> None:
    with pytest.raises(JwsError):
        split_token(token)


@pytest.mark.parametrize("raw", [b"\x00", b"ab", b"abc", b"\xff\xfe\xfd", bytes(range(256))])
def test_canonical_base64url_is_read(raw: bytes) -> None:
    assert decode_segment(b64(raw), "part") == raw


@pytest.mark.parametrize(
    ("why", "segment"),
    [
        ("length that no encoder makes", b"YWJjZ"),
        ("padding", b"YQ=="),
        ("padding", b"YWI="),
        ("padding in the middle", b"YQ==YQ=="),
        ("stray bits", b"YR"),
        ("stray bits", b"YWJjZH"),
        ("standard alphabet", b"+_-8"),
        ("standard alphabet", b"//__"),
        ("white space", b"YW Jj"),
        ("line end", b"YWJj\n"),
        ("line end", b"YWJ\r\njZGVm"),
        ("non-ASCII", b"YW\xc3\xa9"),
        ("NUL", b"YW\x00j"),
        ("comma", b"YWJj,"),
        ("only foreign characters", b"!!!!"),
    ],
)
def test_other_encodings_are_refused(why: str, segment: bytes) -> None:
    with pytest.raises(JwsError, match="canonical"):
        decode_segment(segment, "part")


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RS256", "jwk": {}},
        {"alg": "RS256", "jku": "https://evil.example/keys"},
        {"alg": "RS256", "x5u": "https://evil.example/cert"},
        {"alg": "RS256", "crit": ["exp"]},
        {"alg": "RS256", "crit": []},
        {"alg": "RS256", "b64": False},
        {"alg": "RS256", "b64": None},
        {"alg": "RS256", "b64": 1},
        {"alg": "RS256", "enc": "A256GCM"},
        {"alg": "RS256", "zip": "DEF"},
        {},
        {"kid": "k1"},
        {"alg": None},
        {"alg": 256},
        {"alg": ["RS256"]},
        {"alg": "R" * 257},
        {"alg": "RS256", "kid": 1},
        {"alg": "RS256", "kid": None},
        {"alg": "RS256", "kid": {"a": 1}},
        {"alg": "RS256", "kid": "k" * 257},
        {"alg": "RS256", "typ": True},
    ],
)
def test_header_that_would_change_the_rules_is_refused(header: dict[str, object]) -> None:
    with pytest.raises(JwsError):
        read_header(b64(json.dumps(header).encode()))


def test_header_is_read() -> None:
    raw = b'{"alg":"RS256","kid":"k1","typ":"JWT","x5t":"abc","x5c":["ignored"],"b64":true}'
    assert read_header(b64(raw)) == ("RS256", "k1", "JWT")
    assert read_header(b64(b'{"alg":"RS256"}')) == ("RS256", None, None)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{",
        b"{}}",
        b"{} {}",
        b"{}x",
        b"\xef\xbb\xbf{}",
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        '{"a":1}'.encode("utf-16"),
        b'{"sub":"a","sub":"b"}',
        b'{"sub":"a","\\u0073ub":"b"}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":[{"b":1,"b":2}]}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":-1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":01}',
        b'{"a":"\n"}',
        b'{"a":"\\ud800"}',
        b'{"a":{"\\udfff":1}}',
        b'{"a":' + b"[" * 17 + b"]" * 17 + b"}",
        b"[" * 4000,
        b'{"a":' * 1500,
        b'{"' + b'\\"' * 4000,
    ],
)
def test_json_with_more_than_one_meaning_is_refused(raw: bytes) -> None:
    with pytest.raises(JwsError):
        read_object(raw, "payload")
    with pytest.raises(JwsError):
        read_payload(b64(raw) or b"A")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"{}", {}),
        (b' {"a" : 1.5e3 } ', {"a": 1500.0}),
        (b'{"a":"\\u00e9\\ud83d\\ude00"}', {"a": "é😀"}),
        (b'{"a":' + b"[" * 15 + b"]" * 15 + b"}", None),
        (b'{"a":"' + b"[{" * 100 + b'"}', {"a": "[{" * 100}),
        (b'{"a":"\\"[[[[[[[[[[[[[[[[[[[[[[[[["}', {"a": '"' + "[" * 25}),
        (b'{"a":[' + b",".join([b'{"r":[]}'] * 40) + b"]}", {"a": [{"r": []}] * 40}),
    ],
)
def test_strict_json_is_read(raw: bytes, value: object) -> None:
    read = read_object(raw, "payload")
    assert value is None or read == value


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "raw",
    [
        b'"\\"' * 200_000,
        b'{"a":"' + b"\\" * 400_000,
        b"[" * 400_000,
        b'"' * 400_001,
        b'"' + b"[]" * 17 + b'\\"' * 200_000,
    ],
)
def test_hostile_json_costs_linear_time(raw: bytes) -> None:
    """Quadratic time would take hours for these sizes."""
    for prefix in (b"", b"[" * 17, b'"' + b"\\" + b'"[' * 20):
        with pytest.raises(JwsError):
            read_object(prefix + raw, "payload")
