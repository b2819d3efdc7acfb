"""Every path has one spelling or none; targets have one of four forms."""

from pathlib import Path

import pytest

from agent.wire.path import AmbiguousPathError, BadTargetError, normalise, split_authority, split_target
from tests.unit.path_cases import CASES, Case, page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "paths.md"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.raw!r}")
def test_case(case: Case) -> None:
    if case.normal is None:
        with pytest.raises(AmbiguousPathError) as caught:
            normalise(case.raw)
        assert str(caught.value).endswith(".")
        assert str(caught.value).isprintable()
    else:
        assert normalise(case.raw) == case.normal
        assert normalise(case.normal) == case.normal


@pytest.mark.parametrize("code", [*range(0x21), *range(0x7F, 0x100)])
def test_every_unprintable_byte_is_refused(code: int) -> None:
    with pytest.raises(AmbiguousPathError):
        normalise(b"/a" + bytes([code]))


def test_clean_path_is_the_same_object() -> None:
    raw = b"/orders/17/lines"
    assert normalise(raw) is raw


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.unit.path_cases > docs/reference/paths.md"


TARGETS = [
    (b"/", b"GET", ("origin", b"", b"/", b"")),
    (b"/a?b=1?2", b"GET", ("origin", b"", b"/a", b"b=1?2")),
    (b"//evil/x", b"GET", ("origin", b"", b"//evil/x", b"")),
    (b"/a?", b"GET", ("origin", b"", b"/a", b"")),
    (b"*", b"OPTIONS", ("asterisk", b"", b"*", b"")),
    (b"http://h/p?q", b"GET", ("absolute", b"h", b"/p", b"q")),
    (b"HTTPS://H:8443", b"GET", ("absolute", b"H:8443", b"/", b"")),
    (b"http://h?q=1", b"GET", ("absolute", b"h", b"/", b"q=1")),
    (b"http://h", b"OPTIONS", ("absolute", b"h", b"*", b"")),
    (b"http://h/", b"OPTIONS", ("absolute", b"h", b"/", b"")),
    (b"http://h?q", b"OPTIONS", ("absolute", b"h", b"/", b"q")),
    (b"http://[::1]:80/x", b"GET", ("absolute", b"[::1]:80", b"/x", b"")),
    (b"h:443", b"CONNECT", ("authority", b"h:443", b"", b"")),
    (b"h:443", b"", ("authority", b"h:443", b"", b"")),
]


@pytest.mark.parametrize(("target", "method", "expected"), TARGETS)
def test_target(target: bytes, method: bytes, expected: tuple[str, bytes, bytes, bytes]) -> None:
    assert split_target(target, method) == expected


@pytest.mark.parametrize(
    ("target", "method"),
    [
        (b"", b"GET"),
        (b"a", b"GET"),
        (b"h:443", b"GET"),
        (b"*", b"GET"),
        (b"ftp://h/x", b"GET"),
        (b"http:///x", b"GET"),
        (b"http://user@h/x", b"GET"),
        (b"http://user:pw@h/x", b"GET"),
        (b"http://h:99999/", b"GET"),
        (b"http://h:8a/", b"GET"),
        (b"http://h h/", b"GET"),
        (b"http://[::1/", b"GET"),
        (b"/x", b"CONNECT"),
        (b"h", b"CONNECT"),
        (b"http://h/", b"CONNECT"),
    ],
)
def test_target_without_a_form(target: bytes, method: bytes) -> None:
    with pytest.raises(BadTargetError):
        split_target(target, method)


@pytest.mark.parametrize(
    "target", [b"/a?b#c", b"http://h/a#b", b"http://h/a?b#c", b"/a?b c", b"/a?\x00", b"http://h/?\n"]
)
def test_fragments_and_controls_are_refused(target: bytes) -> None:
    with pytest.raises(AmbiguousPathError):
        split_target(target, b"GET")


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"Api.Example", (b"api.example", -1)),
        (b"api.example.", (b"api.example", -1)),
        (b"api.example.:80", (b"api.example", 80)),
        (b"h:", (b"h", -1)),
        (b"[::1]:8080", (b"[::1]", 8080)),
        (b"127.0.0.1:1", (b"127.0.0.1", 1)),
    ],
)
def test_authority(authority: bytes, expected: tuple[bytes, int]) -> None:
    assert split_authority(authority) == expected


@pytest.mark.parametrize("authority", [b"", b":80", b"a b", b"a/b", b"a@b", b"a:b", b"[::1", b"a\x00", b"h:123456"])
def test_authority_refused(authority: bytes) -> None:
    with pytest.raises(BadTargetError):
        split_authority(authority)
