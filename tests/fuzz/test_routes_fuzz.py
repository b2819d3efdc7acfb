"""The indexed, cached table gives the answer of a linear search, and explains the same answer."""

from hypothesis import given
from hypothesis import strategies as st

from agent.traffic.match import MatchSettings, values_of
from agent.traffic.routes import RouteTable
from agent.wire.head import RequestHead
from agent.wire.path import normalise
from tests.kit.head import request_head

WORDS = st.sampled_from(["a", "b", "c:d", "e"])
PARTS = st.one_of(WORDS, st.sampled_from(["{x}", "*"]))


@st.composite
def templates(draw: st.DrawFn) -> str:
    parts = draw(st.lists(PARTS, max_size=3, unique_by=lambda part: part if part == "{x}" else object()))
    end = draw(st.sampled_from(["", "/", "/**"]))
    return ("/" + "/".join(parts)).rstrip("/") + end or "/"


@st.composite
def settings(draw: st.DrawFn) -> MatchSettings:
    return MatchSettings(
        path=draw(templates()),
        host=draw(st.sampled_from(["", "", "h.example", "*.example"])),
        methods=draw(st.sampled_from([(), (), ("GET",), ("POST", "PUT")])),
        headers=draw(st.sampled_from([{}, {}, {"x": "1"}, {"x": "*"}])),
        query=draw(st.sampled_from([{}, {}, {"q": "1"}])),
    )


@st.composite
def heads(draw: st.DrawFn) -> RequestHead:
    parts = draw(st.lists(st.sampled_from([b"a", b"b", b"c:d", b"c%3Ad", b"z"]), max_size=4))
    path = normalise(b"/" + b"/".join(parts) + draw(st.sampled_from([b"", b"/"])))
    return request_head(
        draw(st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS"])),
        path,
        host=draw(st.sampled_from([b"h.example", b"i.example", b"other"])),
        fields=draw(st.sampled_from([{}, {b"x": b"1"}, {b"x": b"2"}])),
        query=draw(st.sampled_from([b"", b"q=1", b"q=2"])),
    )


def linear(rows: list[MatchSettings], head: RequestHead) -> int | None:
    path = head.path.replace(b"%3A", b":").decode().split("/")[1:]
    for number, row in enumerate(rows):
        wanted = row.path.split("/")[1:]
        if wanted[-1] == "**":
            wanted.pop()
            fits = len(path) >= len(wanted)
        else:
            fits = len(path) == len(wanted)
        for have, want in zip(path, wanted, strict=False):
            fits = fits and (have != "" if want in {"*", "{x}"} else have == want)
        host = head.host.decode()
        fits = fits and (row.host in {"", host} or (row.host[:1] == "*" and host.endswith(row.host[1:])))
        methods = {*row.methods, *(["HEAD"] if "GET" in row.methods else [])}
        fits = fits and (not methods or head.method.decode() in methods)
        fits = fits and all(v in {"*", head.fields.get(k.encode(), b"").decode()} for k, v in row.headers.items())
        fits = fits and all(k.encode() in head.fields for k in row.headers)
        fits = fits and all(values_of(head.query).get(k) == v for k, v in row.query.items())
        if fits:
            return number
    return None


@given(st.lists(settings(), max_size=12), st.lists(heads(), min_size=1, max_size=6))
def test_index_equals_linear_search(rows: list[MatchSettings], asked: list[RequestHead]) -> None:
    table = RouteTable([(str(number), row, number) for number, row in enumerate(rows)])
    for head in [*asked, *asked]:
        expected = linear(rows, head)
        assert table.match(head) == expected
        chosen = [int(name) for name, matched, _ in table.explain(head) if matched]
        assert chosen == ([] if expected is None else [expected])
