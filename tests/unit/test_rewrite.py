"""Rewriting moves whole segments and whole fields, and never makes a path ambiguous or a message misframed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.wire.path import AmbiguousPathError, normalise
from agent.wire.rewrite import Rewrite, RewriteSettings
from tests.kit.head import request_head


def moved(raw: bytes, match_path: str = "/**", **settings: str) -> bytes:
    return Rewrite(RewriteSettings.model_validate(settings), match_path).apply_path(raw)


@pytest.mark.parametrize(
    ("settings", "path", "expected"),
    [
        ({}, b"/a", b"/a"),
        ({"strip_prefix": "/search"}, b"/search/x/y", b"/x/y"),
        ({"strip_prefix": "/search"}, b"/search/", b"/"),
        ({"strip_prefix": "/search"}, b"/search", b"/"),
        ({"strip_prefix": "/search"}, b"/searches/x", b"/searches/x"),
        ({"strip_prefix": "/search"}, b"/other", b"/other"),
        ({"strip_prefix": "/a/b"}, b"/a/b/c", b"/c"),
        ({"strip_prefix": "/a:b"}, b"/a%3Ab/c%3Ad", b"/c%3Ad"),
        ({"strip_prefix": "/caf\u00e9"}, b"/caf%C3%A9/x", b"/x"),
        ({"add_prefix": "/v2"}, b"/x", b"/v2/x"),
        ({"add_prefix": "/v2"}, b"/", b"/v2/"),
        ({"strip_prefix": "/v1", "add_prefix": "/v2"}, b"/v1/x", b"/v2/x"),
        ({"strip_prefix": "/v1", "add_prefix": "/v2"}, b"*", b"*"),
    ],
)
def test_prefixes(settings: dict[str, str], path: bytes, expected: bytes) -> None:
    assert moved(path, **settings) == expected


@pytest.mark.parametrize(
    ("match_path", "new", "path", "expected"),
    [
        ("/orders/{id}", "/v2/o/{id}", b"/orders/17", b"/v2/o/17"),
        ("/{a}/{b}", "/{b}/{a}", b"/x/y", b"/y/x"),
        ("/{a}/{b}", "/{b}/{b}", b"/x/y", b"/y/y"),
        ("/orders/**", "/new/**", b"/orders/1/2", b"/new/1/2"),
        ("/orders/**", "/new/**", b"/orders", b"/new"),
        ("/orders/**", "/new/**", b"/orders/", b"/new/"),
        ("/orders/**", "/**", b"/orders", b"/"),
        ("/orders/**", "/**", b"/orders/1", b"/1"),
        ("/{t}/**", "/x/{t}/**", b"/a/b/c", b"/x/a/b/c"),
        ("/orders/**", "/fixed", b"/orders/1", b"/fixed"),
    ],
)
def test_path_from_what_the_route_matched(match_path: str, new: str, path: bytes, expected: bytes) -> None:
    assert moved(path, match_path, path=new) == expected


@pytest.mark.parametrize(
    ("match_path", "new"), [("/a/{id}", "/b/{name}"), ("/a/{id}", "/b/**"), ("/a/**", "/b/{x}/**")]
)
def test_unknown_names_are_refused(match_path: str, new: str) -> None:
    with pytest.raises(ValueError, match="isn't in the route's path"):
        moved(b"/a/1", match_path, path=new)


PIECES = st.sampled_from([b"a", b"b", b";", b";x", b"...", b"%2B", b"%25", b".a", b"%C3%A9", b":"])


@given(st.lists(PIECES, min_size=1, max_size=5), st.booleans())
def test_normal_paths_stay_normal(pieces: list[bytes], slash: bool) -> None:
    try:
        path = normalise(b"/" + b"/".join(pieces) + (b"/" if slash else b""))
    except AmbiguousPathError:
        return
    first = pieces[0].decode()
    results = [
        moved(path, add_prefix="/v2"),
        moved(path, "/{x}/**", path="/{x}/**"),
        moved(path, "/{x}/**", path="/**"),
    ]
    if ";" not in first and first != "%2B":
        results.append(moved(path, strip_prefix="/" + first))
    for result in results:
        assert normalise(result) == result


def test_request_fields() -> None:
    rewrite = Rewrite(
        RewriteSettings(
            set_headers={"X-From": "gateway", "x-b": "\u00fc"},
            add_headers={"x-tag": "2"},
            remove_headers=("Cookie",),
        )
    )
    head = request_head(fields={b"cookie": b"a=b", b"x-from": b"evil", b"x-tag": b"1", b"accept": b"*/*"})
    head.lines = [b"Cookie: a=b", b"X-FROM: evil", b"x-tag: 1", b"accept: */*"]
    before = head.lines
    rewrite.apply(head)
    assert head.lines == [b"x-tag: 1", b"accept: */*", b"x-from: gateway", b"x-b: \xc3\xbc", b"x-tag: 2"]
    assert before[0] == b"Cookie: a=b"
    assert head.fields[b"cookie"] == b"a=b"


def test_applying_twice_to_different_heads_shares_nothing() -> None:
    rewrite = Rewrite(RewriteSettings(add_headers={"x-tag": "1"}))
    for _ in range(2):
        head = request_head()
        as_parsed = head.lines
        rewrite.apply(head)
        assert (head.lines, as_parsed) == ([b"x-tag: 1"], [])


def test_response_fields() -> None:
    rewrite = Rewrite(RewriteSettings(response_set_headers={"x-frame": "deny"}, response_remove_headers=("Server",)))
    lines = [b"Server: x", b"X-Frame: allow", b"set-cookie: a=1", b"set-cookie: b=2"]
    assert rewrite.response_lines(lines) == [b"set-cookie: a=1", b"set-cookie: b=2", b"x-frame: deny"]
    assert Rewrite(RewriteSettings()).response_lines(lines) == lines


def test_host() -> None:
    assert Rewrite(RewriteSettings(host="api.example:8080")).host == b"api.example:8080"
    assert Rewrite(RewriteSettings()).host == b""


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"set_headers": {"Content-Length": "1"}}, "frames the message"),
        ({"set_headers": {"transfer-encoding": "chunked"}}, "frames the message"),
        ({"add_headers": {"connection": "close"}}, "frames the message"),
        ({"remove_headers": ["Transfer-Encoding"]}, "frames the message"),
        ({"response_set_headers": {"content-length": "1"}}, "frames the message"),
        ({"response_remove_headers": ["connection"]}, "frames the message"),
        ({"set_headers": {"Host": "x"}}, "with `host`"),
        ({"remove_headers": ["host"]}, "with `host`"),
        ({"set_headers": {"X-Forwarded-For": "1.1.1.1"}}, "written by the sidecar"),
        ({"remove_headers": ["traceparent"]}, "written by the sidecar"),
        ({"response_set_headers": {"X-Outrigger-Origin": "app"}}, "sidecar's own"),
        ({"set_headers": {"x a": "1"}}, "no header name"),
        ({"set_headers": {"": "1"}}, "no header name"),
        ({"remove_headers": ["a:b"]}, "no header name"),
        ({"set_headers": {"x": "a\r\nevil: 1"}}, "line end"),
        ({"add_headers": {"x": "a\n"}}, "line end"),
        ({"response_set_headers": {"x": "a\x00"}}, "NUL"),
        ({"set_headers": {"x": " a"}}, "white space"),
        ({"host": "a b"}, "no host"),
        ({"host": "a\r\nx: 1"}, "no host"),
        ({"strip_prefix": "search"}, "begins with '/'"),
        ({"strip_prefix": "/"}, "begins with '/'"),
        ({"strip_prefix": "/a/../b"}, "write '/b'"),
        ({"add_prefix": "/a/"}, "doesn't end"),
        ({"add_prefix": "/a%2fb"}, "never match"),
        ({"path": "a"}, "begins with '/'"),
        ({"path": "/x-{id}"}, "whole segment"),
        ({"path": "/**/x"}, "whole segment"),
        ({"path": "/a//b"}, "write '/a/b'"),
        ({"path": "/a", "strip_prefix": "/b"}, "not both"),
        ({"strip": "/a"}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RewriteSettings.model_validate(settings)
    assert says in str(caught.value)
