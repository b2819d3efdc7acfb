"""CORS: preflights, actual requests, and what must never reach a browser."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.policies.cors import CACHE_SIZE, Cors, Settings
from agent.ports.policy import Deny
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from tests.kit.head import request_head

SHOP = b"https://shop.example"
PATTERNS = ["https://*.shop.example", "http://localhost:*"]


def make(**settings: Any) -> Cors:
    return Cors(
        Settings.model_validate({"allow_origins": ["https://shop.example"]} | settings), route="r", registry=Registry()
    )


def preflight(origin: bytes = SHOP, method: bytes = b"POST", headers: bytes = b"", **more: bytes) -> RequestHead:
    fields = {b"origin": origin, b"access-control-request-method": method}
    if headers:
        fields[b"access-control-request-headers"] = headers
    for name, value in more.items():
        fields[b"access-control-request-" + name.replace("_", "-").encode()] = value
    return request_head(b"OPTIONS", fields=fields)


def answer(policy: Cors, head: RequestHead) -> tuple[int, dict[str, str]]:
    verdict = policy.on_request(head, 0.0)
    assert isinstance(verdict, Deny)
    assert head.response_extra == b"", "the lines stand in `extra` alone, or they would be sent twice"
    raw = verdict.refusal.render(extra=verdict.extra).decode()
    lines = raw.partition("\r\n\r\n")[0].split("\r\n")[1:]
    fields = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    assert len(fields) == len(lines), "a header is sent twice"
    return verdict.refusal.status, fields


def actual(policy: Cors, origin: bytes | None, method: bytes = b"GET") -> bytes:
    head = request_head(method, fields={} if origin is None else {b"origin": origin})
    assert policy.on_request(head, 0.0) is None
    return head.response_extra


def test_allowed_preflight() -> None:
    policy = make(allow_methods=["GET", "PUT"], allow_headers=["Authorization", "X-Trace"], max_age_s=60)
    status, fields = answer(policy, preflight(method=b"PUT", headers=b"authorization,x-trace"))
    assert status == 204
    assert fields["access-control-allow-origin"] == "https://shop.example"
    assert fields["access-control-allow-methods"] == "GET, PUT"
    assert fields["access-control-allow-headers"] == "Authorization, X-Trace"
    assert fields["access-control-max-age"] == "60"
    assert fields["vary"].startswith("origin")
    assert "content-length" not in fields  # RFC 9110, section 8.6: none in a 204
    assert "access-control-allow-credentials" not in fields
    assert "x-outrigger-reason" not in fields


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (preflight(origin=b"https://evil.example"), "https://evil.example"),
        (preflight(origin=b"null"), "null"),
        (preflight(origin=b"https://shop.example, https://shop.example"), "isn't allowed"),
        (preflight(method=b"DELETE"), "method 'DELETE'"),
        (preflight(method=b"post"), "method 'post'"),
        (preflight(method=b""), "method ''"),
        (preflight(headers=b"content-type, x-secret"), "request header 'x-secret'"),
    ],
)
def test_refused_preflight(head: RequestHead, why: str) -> None:
    policy = make()
    status, fields = answer(policy, head)
    assert (status, fields["x-outrigger-reason"]) == (403, "cors_denied")
    assert fields["vary"].startswith("origin")
    assert not [name for name in fields if name.startswith("access-control-")]
    verdict = policy.on_request(head, 0.0)
    assert isinstance(verdict, Deny)
    assert why in verdict.why
    kind, sentence = policy.explain(head, 0.0)
    assert kind == "deny"
    assert why in sentence


def test_any_header_is_echoed_by_name() -> None:
    """`*` doesn't cover Authorization (Fetch, section 3.3.3), and means nothing where credentials are sent."""
    policy = make(allow_headers="*", allow_methods="*", allow_credentials=True)
    status, fields = answer(policy, preflight(method=b"PURGE", headers=b"Authorization , x-a,,"))
    assert status == 204
    assert fields["access-control-allow-headers"] == "authorization, x-a"
    assert fields["access-control-allow-methods"] == "PURGE"
    assert fields["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize("headers", [b"x a", b"x:a", b"x\x00", b"\xff", b"a;b", b"x\x0b"])
def test_only_tokens_are_echoed(headers: bytes) -> None:
    assert answer(make(allow_headers="*"), preflight(headers=headers))[0] == 403
    assert answer(make(allow_methods="*"), preflight(method=headers))[0] == 403


@given(st.binary(max_size=40), st.binary(max_size=20), st.binary(max_size=40))
def test_no_line_of_the_clients_making(origin: bytes, method: bytes, headers: bytes) -> None:
    policies = make(allow_origins="*", allow_headers="*", allow_methods="*"), make(allow_origins=PATTERNS)
    for policy in policies:
        for head in (preflight(origin, method, headers), request_head(fields={b"origin": origin})):
            verdict = policy.on_request(head, 0.0)
            extra = verdict.extra if isinstance(verdict, Deny) else head.response_extra
            for line in extra.split(b"\n")[:-1]:
                assert line.endswith(b"\r")
                assert line.startswith((b"access-control-", b"vary: "))


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        (b"https://shop.example", True),
        (b"http://shop.example", False),
        (b"https://shop.example:8443", False),
        (b"https://shop.example:443", False),  # browsers leave the scheme's own port out
        (b"https://shop.example.evil", False),
        (b"https://evilshop.example", False),
        (b"https://a.shop.example", False),
        (b"HTTPS://SHOP.EXAMPLE", False),
        (b"https://shop.example/", False),
        (b"https://user@shop.example", False),
        (b"null", False),
        (b"", False),
        (b"https://shop.example\x00", False),
    ],
)
def test_exact_origins(sent: bytes, allowed: bool) -> None:
    lines = actual(make(allow_origins=["HTTPS://Shop.Example:443"]), sent)
    assert (b"access-control-allow-origin: https://shop.example\r\n" in lines) is allowed
    assert lines.count(b"vary: origin\r\n") == 1


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        (b"https://a.shop.example", True),
        (b"https://b.a.shop.example", True),
        (b"https://shop.example", False),
        (b"https://.shop.example", False),
        (b"https://ashop.example", False),
        (b"https://a.shop.example.evil", False),
        (b"https://a.shop.example:8443", False),
        (b"https://evil.example/.shop.example", False),
        (b"https://evil.example#.shop.example", False),
        (b"https://evil.example\r\n.shop.example", False),
        (b"https://a.shopXexample", False),
        (b"http://localhost:3000", True),
        (b"http://localhost", True),
        (b"http://localhost:", False),
        (b"http://localhost:3000.evil", False),
        (b"null", False),
    ],
)
def test_patterns(sent: bytes, allowed: bool) -> None:
    policy = make(allow_origins=PATTERNS)
    for _ in range(2):  # the second one is remembered
        lines = actual(policy, sent)
        assert lines == (b"access-control-allow-origin: " + sent + b"\r\n" if allowed else b"") + b"vary: origin\r\n"
    assert answer(policy, preflight(origin=sent))[0] == (204 if allowed else 403)


def test_remembered_origins_are_bounded() -> None:
    policy = make(allow_origins=["https://shop.example", *PATTERNS])
    for number in range(3 * CACHE_SIZE):
        actual(policy, b"https://s%d.shop.example" % number)
        assert len(policy._known) <= CACHE_SIZE + 1
    assert actual(policy, SHOP).startswith(b"access-control-allow-origin: https://shop.example\r\n")


def test_everyone() -> None:
    policy = make(allow_origins="*", expose_headers=["ETag", "Link"])
    expected = b"access-control-allow-origin: *\r\naccess-control-expose-headers: ETag, Link\r\n"
    assert actual(policy, b"https://anyone.example") == actual(policy, b"null") == expected
    assert actual(policy, None) == b""  # the response is the same for all: caches need no Vary
    assert answer(policy, preflight(origin=b"https://anyone.example"))[1]["access-control-allow-origin"] == "*"


def test_null_only_where_it_is_listed() -> None:
    assert actual(make(allow_origins=["null"]), b"null") == b"access-control-allow-origin: null\r\nvary: origin\r\n"


def test_credentials_and_exposed_headers_of_an_actual_request() -> None:
    assert actual(make(allow_credentials=True, expose_headers=["ETag"]), SHOP) == (
        b"access-control-allow-origin: https://shop.example\r\naccess-control-allow-credentials: true\r\n"
        b"access-control-expose-headers: ETag\r\nvary: origin\r\n"
    )


def test_request_without_origin_still_varies() -> None:
    """Otherwise a cache would hand the answer without CORS headers to a browser that needs them."""
    assert actual(make(), None) == b"vary: origin\r\n"


def test_plain_options_is_no_preflight() -> None:
    assert b"allow-origin" in actual(make(), SHOP, b"OPTIONS")
    head = request_head(b"OPTIONS", fields={b"access-control-request-method": b"PUT"})
    assert make().on_request(head, 0.0) is None


@pytest.mark.parametrize(
    ("private_network", "asked", "given"),
    [(True, b"true", True), (True, b"false", False), (False, b"true", False)],
)
def test_private_network(private_network: bool, asked: bytes, given: bool) -> None:
    _, fields = answer(make(private_network=private_network), preflight(private_network=asked))
    assert ("access-control-allow-private-network" in fields) is given


def test_what_the_application_says_is_dropped() -> None:
    """Every CORS response field that exists, so that none is ever sent twice; `vary` stays the application's too."""
    policy = make(allow_credentials=True, expose_headers=["ETag"], private_network=True)
    _, fields = answer(policy, preflight(private_network=b"true"))
    ours = {name.encode() for name in fields if name.startswith("access-control-")}
    ours |= {line.partition(b":")[0] for line in actual(policy, SHOP).split(b"\r\n") if line.startswith(b"access")}
    assert ours == policy.response_drop


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"allow_origins": "*", "allow_credentials": True}, "list origins"),
        ({"allow_origins": ["*"], "allow_credentials": True}, "list origins"),
        ({"allow_origins": ["*", "https://a.example"]}, 'write only "\\*"'),
        ({"allow_origins": []}, "leave the cors section out"),
        ({}, "Field required"),
        ({"allow_origins": ["shop.example"]}, "is no origin"),
        ({"allow_origins": ["https://shop.example/"]}, "is no origin"),
        ({"allow_origins": ["https://shop.example/a"]}, "is no origin"),
        ({"allow_origins": ["https://a.*.example"]}, "is no origin"),
        ({"allow_origins": ["https://*"]}, "is no origin"),
        ({"allow_origins": ["https://*.com"]}, "every site under 'com'"),
        ({"allow_origins": ["https://bücher.example"]}, "xn--"),
        ({"allow_origins": ["https://a.example\r\nx: y"]}, "is no origin"),
        ({"allow_origins": ["https://a.example"], "allow_headers": ["x y"]}, "no name of a method or header"),
        ({"allow_origins": ["https://a.example"], "allow_methods": ["GET\r\n"]}, "no name of a method or header"),
        (
            {"allow_origins": ["https://a.example"], "allow_credentials": True, "expose_headers": "*"},
            "list the headers",
        ),
        ({"allow_origins": ["https://a.example"], "max_age_s": -1}, "greater than or equal to 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(settings)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (request_head(), ("allow", "no Origin")),
        (request_head(fields={b"origin": SHOP}), ("allow", "is allowed")),
        (request_head(fields={b"origin": b"https://evil.example"}), ("allow", "withholds")),
        (preflight(), ("deny", "answered with 204 and not forwarded")),
        (preflight(method=b"PATCH"), ("deny", "answered with 403 and not forwarded: method 'PATCH'")),
    ],
)
def test_explain(head: RequestHead, says: tuple[str, str]) -> None:
    kind, sentence = make().explain(head, 0.0)
    assert kind == says[0]
    assert says[1] in sentence
