"""The first route that matches wins, whatever the index does to be quick."""

import pytest
from pydantic import ValidationError

from agent.traffic import routes as module
from agent.traffic.match import MatchSettings
from agent.traffic.routes import RouteTable
from agent.wire.head import RequestHead
from agent.wire.path import AmbiguousPathError
from tests.kit.head import request_head


def table(*rows: MatchSettings | str, preflights: tuple[str, ...] = ()) -> RouteTable[str]:
    """Routes named r0, r1, …, each with its name as payload."""
    settings = [MatchSettings(path=row) if isinstance(row, str) else row for row in rows]
    return RouteTable([(f"r{i}", each, f"r{i}") for i, each in enumerate(settings)], preflights=preflights)


def ask(where: RouteTable[str], path: bytes = b"/", method: bytes = b"GET", **more: object) -> str | None:
    return where.match(request_head(method, path, **more))  # type: ignore[arg-type]


def test_order_beats_precision() -> None:
    where = table("/orders/**", "/orders/1", "/**", "/orders/{id}")
    assert ask(where, b"/orders/1") == "r0"
    assert ask(where, b"/x") == "r2"
    assert ask(table("/orders/{id}", "/orders/1"), b"/orders/1") == "r0"
    assert ask(table("/orders/1", "/orders/{id}"), b"/orders/1") == "r0"
    assert ask(table("/orders/1", "/orders/{id}"), b"/orders/2") == "r1"


def test_backtracks_into_parameters() -> None:
    where = table("/a/b/c", "/{x}/b/d", "/a/{y}/e")
    assert ask(where, b"/a/b/c") == "r0"
    assert ask(where, b"/a/b/d") == "r1"
    assert ask(where, b"/a/b/e") == "r2"
    assert ask(where, b"/z/b/e") is None


def test_methods_and_head() -> None:
    where = table(MatchSettings(path="/a", methods=("get",)), MatchSettings(path="/a", methods=("POST",)))
    assert ask(where, b"/a") == "r0"
    assert ask(where, b"/a", b"HEAD") == "r0"
    assert ask(where, b"/a", b"POST") == "r1"
    assert ask(where, b"/a", b"PUT") is None
    assert ask(table(MatchSettings(path="/a", methods=("HEAD",))), b"/a") is None


def test_hosts() -> None:
    where = table(MatchSettings(host="API.example"), MatchSettings(host="*.example"))
    assert ask(where, host=b"api.example") == "r0"
    assert ask(where, host=b"a.b.example") == "r1"
    assert ask(where, host=b"example") is None
    assert ask(where, host=b".example") is None
    assert ask(where, host=b"apiXexample") is None
    assert ask(where, host=b"") is None


def test_headers_and_query() -> None:
    where = table(
        MatchSettings(headers={"X-Beta": "1"}),
        MatchSettings(headers={"x-any": "*"}),
        MatchSettings(query={"v": "2", "w": "*"}),
        "/**",
    )
    assert ask(where, fields={b"x-beta": b"1"}) == "r0"
    assert ask(where, fields={b"x-beta": b"2"}) == "r3"
    assert ask(where, fields={b"x-any": b""}) == "r1"
    assert ask(where, query=b"v=2&w") == "r2"
    assert ask(where, query=b"w=1&v=%32") == "r2"
    assert ask(where, query=b"v=2&w=1&w=2&v=2") == "r2", "the same value twice, or any value"
    for query in (b"v=1&v=2&w=1", b"v=2&v=1&w=1", b"v=2&w=1&%76=1", b"v&w=1&v=2"):
        with pytest.raises(AmbiguousPathError):  # servers read the first, the last or both
            ask(where, query=query)
    assert ask(where, query=b"v=2") == "r3"
    assert ask(where, query=b"") == "r3"


def test_star_is_only_for_catch_all() -> None:
    assert ask(table("/{x}", "/", "/**"), b"*", b"OPTIONS") == "r2"
    assert ask(table("/", "/*"), b"*", b"OPTIONS") is None


def test_encoded_spelling_of_a_literal_matches_it() -> None:
    where = table("/orders:purge", "/**")
    assert ask(where, b"/orders%3Apurge") == "r0"


def test_parameter_that_changes_the_route_is_refused() -> None:
    where = table("/admin/**", "/orders/{id}", "/**")
    for path in (b"/admin;x", b"/admin;/users", b"/;x/admin", b"/admin/;"):
        if path == b"/admin/;":
            assert ask(where, path) == "r0"
            continue
        for _ in range(2):  # the second time it could come from the cache
            with pytest.raises(AmbiguousPathError):
                ask(where, path)
    assert ask(where, b"/orders/1;v=2") == "r1"
    assert ask(where, b"/else/1;v=2") == "r2"


def preflight(path: bytes, asked: bytes, *, method: bytes = b"OPTIONS") -> RequestHead:
    fields = {b"origin": b"https://x.example", b"access-control-request-method": asked}
    return request_head(method, path, fields=fields)


def test_preflights_reach_only_the_routes_that_answer_them() -> None:
    rows = (MatchSettings(path="/a", methods=("GET",)), MatchSettings(path="/a", methods=("POST",)))
    where = table(*rows, "/**", preflights=("r1",))
    assert where.match(preflight(b"/a", b"POST")) == "r1"
    assert where.match(preflight(b"/a", b"GET")) == "r2"
    assert where.match(preflight(b"/a", b"POST", method=b"PUT")) == "r2"
    assert ask(where, b"/a", b"OPTIONS") == "r2"
    listed = table(MatchSettings(path="/a", methods=("OPTIONS",)), preflights=("other",))
    assert listed.match(preflight(b"/a", b"PUT")) == "r0"


def test_explanation() -> None:
    where = table(
        MatchSettings(path="/b"),
        MatchSettings(host="h.example"),
        MatchSettings(methods=("PUT",)),
        MatchSettings(headers={"x-a": "1"}),
        MatchSettings(query={"q": "1"}),
        "/a",
        "/**",
    )
    rows = where.explain(request_head(path=b"/a"))
    assert [(name, matched) for name, matched, _ in rows] == [(f"r{i}", i == 5) for i in range(7)]
    assert [why for _, _, why in rows] == [
        "path '/a' doesn't match '/b'",
        "host is 'localhost', not 'h.example'",
        "method GET isn't among PUT",
        "header x-a is missing",
        "query parameter q is missing",
        "",
        "would match, but route 'r5' comes first",
    ]


def test_cache_stays_bounded_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_ENTRIES", 8)
    where = table("/a/{id}", "/**")
    for i in range(100):
        assert ask(where, b"/a/%d" % i) == "r0"
        assert ask(where, b"/b/%d" % i) == "r1"
        assert ask(where, b"/b/1") == "r1"
    assert len(where._cache) <= 8
    ask(where, b"/" + b"x" * 300)
    assert all(len(path) < 257 for _, _, path in where._cache)


def test_cache_looks_at_fields_each_time() -> None:
    where = table(MatchSettings(headers={"x": "1"}), "/**")
    assert ask(where, fields={b"x": b"1"}) == "r0"
    assert ask(where) == "r1"
    assert ask(where, fields={b"x": b"1"}) == "r0"


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "orders"},
        {"path": "/a//b"},
        {"host": "api.example:80"},
        {"host": "http://api"},
        {"host": "*"},
        {"host": "a.*.example"},
        {"methods": ["G T"]},
        {"headers": {"a b": "1"}},
        {"headers": {"Host": "x"}},
        {"paths": "/a"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MatchSettings.model_validate(wrong)
