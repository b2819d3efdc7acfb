"""Whatever bytes come: refused, or one spelling that stays."""

import re
from urllib.parse import unquote_to_bytes

from hypothesis import example, given
from hypothesis import strategies as st

from agent.wire.path import AmbiguousPathError, BadTargetError, normalise, split_target

WORDS = rb"/ // . .. %2e %2E %2f %5c \ ; %3b %25 % a Z %61 %c3%a9 %C0%AE { | # ? : %3A * ~ %7e %20 %2".split()
PIECES = st.sampled_from([*WORDS, b" ", b"\x00", b"\xff"])
PATHS = st.one_of(
    st.lists(PIECES, max_size=12).map(lambda parts: b"/" + b"".join(parts)),
    st.binary(max_size=20),
)
NORMAL = re.compile(rb"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*")


@given(PATHS)
@example(b"/a%2%35")
def test_normal_form(raw: bytes) -> None:
    try:
        normal = normalise(raw)
    except AmbiguousPathError:
        return
    if normal == b"*":
        return
    assert normalise(normal) == normal
    assert NORMAL.fullmatch(normal)
    assert b"//" not in normal
    assert not {b".", b".."} & {part.split(b";")[0] for part in normal.split(b"/")}
    decoded = unquote_to_bytes(normal)
    assert not {b".", b".."} & set(decoded.replace(b"\\", b"/").split(b"/"))
    assert decoded.count(b"/") == normal.count(b"/")


@given(st.text("ab.~%2e/", max_size=12))
def test_plain_paths_mean_what_they_meant(text: str) -> None:
    """Decoding then resolving gives what resolving then decoding gives: nothing was moved."""
    raw = b"/" + text.encode()
    try:
        normal = normalise(raw)
    except AmbiguousPathError:
        return
    out: list[bytes] = []
    parts = re.sub(rb"%2[eE]", b".", raw).split(b"/")[1:]
    for part in parts:
        if part == b"..":
            out.pop()
        elif part not in {b".", b""}:
            out.append(part)
    slash = b"/" if parts[-1] in {b"", b".", b".."} and out else b""
    expected = b"/" + b"/".join(out) + slash
    assert unquote_to_bytes(normal) == unquote_to_bytes(expected)


@given(
    st.one_of(PATHS, st.lists(PIECES, max_size=8).map(lambda p: b"http://h" + b"".join(p))),
    st.sampled_from([b"GET", b"OPTIONS", b"CONNECT", b""]),
)
def test_any_target_has_one_form_or_none(target: bytes, method: bytes) -> None:
    try:
        form, authority, path, query = split_target(target, method)
    except (AmbiguousPathError, BadTargetError):
        return
    assert form in {"origin", "absolute", "authority", "asterisk"}
    assert b"#" not in authority + query
    assert bool(authority) == (form in {"absolute", "authority"})
    assert bool(path) == (form != "authority")
