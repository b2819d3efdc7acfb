"""Templates say what they match, and refuse what could never match."""

import pytest

from agent.traffic.templates import Parameter, PathTemplate
from agent.wire.path import fold, normal_path


def matches(template: str, path: bytes) -> bool:
    return PathTemplate(template).matches(fold(path)[1:].split(b"/"))


@pytest.mark.parametrize(
    ("template", "yes", "no"),
    [
        ("/", [b"/"], [b"/a"]),
        ("/orders", [b"/orders"], [b"/orders/", b"/Orders", b"/orders/1", b"/order", b"/"]),
        ("/orders/", [b"/orders/"], [b"/orders", b"/orders/1"]),
        ("/orders/{id}", [b"/orders/1", b"/orders/a%20b"], [b"/orders", b"/orders/", b"/orders/1/", b"/orders/1/2"]),
        ("/orders/*", [b"/orders/1"], [b"/orders/", b"/orders/1/2"]),
        ("/*/x", [b"/a/x", b"/;/x"], [b"/x", b"/a/b/x"]),
        ("/orders/**", [b"/orders", b"/orders/", b"/orders/1", b"/orders/1/2/"], [b"/ordersx", b"/"]),
        ("/**", [b"/", b"/a", b"/a/b"], []),
        ("/{a}/**", [b"/a", b"/a/", b"/a/b"], [b"/"]),
        ("/orders:purge", [b"/orders:purge", b"/orders%3Apurge"], [b"/orders%253Apurge"]),
        ("/a%3Ab", [b"/a:b", b"/a%3Ab"], []),
        ("/caf\u00e9", [b"/caf%C3%A9"], [b"/cafe"]),
        ("/a%20b", [b"/a%20b"], [b"/ab"]),
    ],
)
def test_matches(template: str, yes: list[bytes], no: list[bytes]) -> None:
    assert [path for path in yes if not matches(template, path)] == []
    assert [path for path in no if matches(template, path)] == []


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("orders", "begins with '/'"),
        ("", "begins with '/'"),
        ("/a//b", "write '/a/b'"),
        ("/a/../b", "write '/b'"),
        ("/a/%2e", "write"),
        ("/%61", "write"),
        ("/a%2fb", "never match"),
        ("/a b", "never match"),
        ("/a?x=1", "never match"),
        ("/a%3ab", "write"),
        ("/a;v=1", "leave ';' out"),
        ("/a/**/b", "only at the end"),
        ("/a**", "only at the end"),
        ("/orders//**", "empty segments"),
        ("/{id}.json", "whole segment"),
        ("/x{id}", "whole segment"),
        ("/a*", "whole segment"),
        ("/{}", "whole segment"),
        ("/{a b}", "whole segment"),
        ("/{a}/{a}", "only once"),
    ],
)
def test_refused_with_a_remedy(template: str, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        PathTemplate(template)
    assert says in str(caught.value)
    assert template in str(caught.value) or template == ""


def test_segments() -> None:
    template = PathTemplate("/a/{id}/*/**")
    assert template.segments == (b"a", Parameter("id"), Parameter(""))
    assert template.rest
    assert template.text == "/a/{id}/*/**"


def test_folding_leaves_data_alone() -> None:
    assert fold(b"/%21%24%26%27%28%29%2A%2B%2C%3D%3A%40") == b"/!$&'()*+,=:@"
    assert fold(b"/%2B%252B%3B%3F%23%20%7C") == b"/+%252B%3B%3F%23%20%7C"


def test_normal_path_of_text() -> None:
    assert normal_path("/b\u00fccher") == b"/b%C3%BCcher"
