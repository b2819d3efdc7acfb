"""Every request head has exactly one meaning, or it is refused: RFC 9112 framing and the smuggling literature."""

import pytest

from agent.wire.errors import MalformedError
from agent.wire.fields import FieldRules
from agent.wire.h1_request import HeadLimits, RequestParser
from agent.wire.head import RequestHead


def parse(data: bytes, limits: HeadLimits | None = None) -> tuple[RequestHead, int] | None:
    return RequestParser(limits or HeadLimits()).parse(data)


def parse_growing(data: bytes) -> None:
    parser = RequestParser(HeadLimits())
    for end in range(1, len(data) + 1):
        parser.parse(data[:end])


def head_of(data: bytes) -> RequestHead:
    parsed = parse(data)
    assert parsed is not None
    return parsed[0]


def request(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    return b"\r\n".join((line, *((b"Host: a",) if host else ()), *lines, b"", b""))


REFUSED: list[tuple[str, bytes, str]] = [
    # framing: CL.TE, TE.CL, TE.TE and their relatives
    ("both framings", request(b"Content-Length: 5", b"Transfer-Encoding: chunked"), "malformed_request"),
    ("both framings, other order", request(b"Transfer-Encoding: chunked", b"Content-Length: 5"), "malformed_request"),
    ("two lengths that differ", request(b"Content-Length: 5", b"Content-Length: 6"), "malformed_request"),
    ("two lengths that agree", request(b"Content-Length: 5", b"Content-Length: 5"), "malformed_request"),
    ("two lengths, two spellings", request(b"Content-Length: 5", b"content-length: 5"), "malformed_request"),
    ("listed length", request(b"Content-Length: 5, 5"), "malformed_request"),
    ("signed length", request(b"Content-Length: +5"), "malformed_request"),
    ("negative length", request(b"Content-Length: -5"), "malformed_request"),
    ("hexadecimal length", request(b"Content-Length: 0x5"), "malformed_request"),
    ("length with underscore", request(b"Content-Length: 1_0"), "malformed_request"),
    ("length in Arabic digits", request("Content-Length: \u0665".encode()), "malformed_request"),
    ("length that overflows", request(b"Content-Length: 99999999999999999999"), "malformed_request"),
    ("empty length", request(b"Content-Length: "), "malformed_request"),
    ("gzip, chunked", request(b"Transfer-Encoding: gzip, chunked"), "malformed_request"),
    ("chunked, gzip", request(b"Transfer-Encoding: chunked, gzip"), "malformed_request"),
    ("chunked twice", request(b"Transfer-Encoding: chunked, chunked"), "malformed_request"),
    ("two codings", request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), "malformed_request"),
    ("identity", request(b"Transfer-Encoding: identity"), "malformed_request"),
    ("xchunked", request(b"Transfer-Encoding: xchunked"), "malformed_request"),
    ("quoted chunked", request(b'Transfer-Encoding: "chunked"'), "malformed_request"),
    ("chunked with a parameter", request(b"Transfer-Encoding: chunked;q=1"), "malformed_request"),
    ("chunked with vertical tab", request(b"Transfer-Encoding: \x0bchunked"), "malformed_request"),
    ("empty coding", request(b"Transfer-Encoding: "), "malformed_request"),
    ("chunked in HTTP/1.0", request(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"), "malformed_request"),
    ("space before colon", request(b"Transfer-Encoding : chunked"), "malformed_request"),
    ("tab before colon", request(b"Content-Length\t: 5"), "malformed_request"),
    ("leading space on a header", request(b" Transfer-Encoding: chunked"), "malformed_request"),
    ("folded line", request(b"X: a", b" b"), "malformed_request"),
    ("folded with tab", request(b"X: a", b"\tb"), "malformed_request"),
    ("bare LF line end", b"GET / HTTP/1.1\nHost: a\r\n\r\n", "malformed_request"),
    ("bare LF between headers", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "malformed_request"),
    ("LF LF as the end", b"GET / HTTP/1.1\r\nHost: a\n\n", "malformed_request"),
    ("bare CR in a value", request(b"X: a\rY: b"), "malformed_request"),
    ("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "malformed_request"),
    ("NUL in a value", request(b"X: a\x00b"), "malformed_request"),
    ("NUL in a name", request(b"X\x00: a"), "malformed_request"),
    ("control in a value", request(b"X: a\x01b"), "malformed_request"),
    ("DEL in a value", request(b"X: a\x7fb"), "malformed_request"),
    ("no colon", request(b"X"), "malformed_request"),
    ("empty name", request(b": a"), "malformed_request"),
    ("name with a space", request(b"X Y: a"), "malformed_request"),
    ("name beyond ASCII", request(b"X\x80: a"), "malformed_request"),
    # the request line
    ("two spaces after the method", request(line=b"GET  / HTTP/1.1"), "malformed_request"),
    ("two spaces before the version", request(line=b"GET /  HTTP/1.1"), "malformed_request"),
    ("tab as separator", request(line=b"GET\t/ HTTP/1.1"), "malformed_request"),
    ("space in the target", request(line=b"GET /a b HTTP/1.1"), "malformed_request"),
    ("lower-case method", request(line=b"get / HTTP/1.1"), "malformed_request"),
    ("unknown method", request(line=b"FOO / HTTP/1.1"), "malformed_request"),
    ("HTTP/0.9", b"GET /\r\n\r\n", "malformed_request"),
    ("HTTP/0.9 by name", request(line=b"GET / HTTP/0.9"), "malformed_request"),
    ("HTTP/2.0", request(line=b"GET / HTTP/2.0"), "malformed_request"),
    ("HTTP/1.2", request(line=b"GET / HTTP/1.2"), "malformed_request"),
    ("HTTP/1.10", request(line=b"GET / HTTP/1.10"), "malformed_request"),
    ("HTTP/01.1", request(line=b"GET / HTTP/01.1"), "malformed_request"),
    ("lower-case http", request(line=b"GET / http/1.1"), "malformed_request"),
    ("RTSP", request(line=b"OPTIONS / RTSP/1.0"), "malformed_request"),
    ("ICE", request(line=b"SOURCE / ICE/1.0"), "malformed_request"),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "malformed_request"),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00", "malformed_request"),
    ("CONNECT", request(line=b"CONNECT a:443 HTTP/1.1"), "method_not_supported"),
    ("TRACE", request(line=b"TRACE / HTTP/1.1"), "method_not_supported"),
    # Host and target
    ("no Host", request(host=False), "bad_host"),
    ("two Hosts", request(b"Host: b"), "bad_host"),
    ("two equal Hosts", request(b"host: a"), "bad_host"),
    ("Host with a path", request(b"Host: a/b", host=False), "bad_host"),
    ("Host with user information", request(b"Host: a@b", host=False), "bad_host"),
    ("Host with a space", request(b"Host: a b", host=False), "bad_host"),
    ("Host list", request(b"Host: a, b", host=False), "bad_host"),
    ("Host with a bad port", request(b"Host: a:8x", host=False), "bad_host"),
    ("absolute form, other Host", request(line=b"GET http://b/ HTTP/1.1"), "bad_host"),
    ("absolute form, other port", request(line=b"GET http://a:81/ HTTP/1.1"), "bad_host"),
    ("absolute form, user information", request(line=b"GET http://u@a/ HTTP/1.1"), "bad_path"),
    ("absolute form, ftp", request(line=b"GET ftp://a/ HTTP/1.1"), "bad_path"),
    ("authority form without CONNECT", request(line=b"GET a:80 HTTP/1.1"), "bad_path"),
    ("asterisk without OPTIONS", request(line=b"GET * HTTP/1.1"), "bad_path"),
    ("fragment", request(line=b"GET /a#b HTTP/1.1"), "bad_path"),
    ("fragment after the query", request(line=b"GET /a?b#c HTTP/1.1"), "bad_path"),
    ("encoded slash", request(line=b"GET /a%2fb HTTP/1.1"), "bad_path"),
    ("encoded dots above the root", request(line=b"GET /%2e%2e/admin HTTP/1.1"), "bad_path"),
    ("backslash", request(line=b"GET /a\\..\\b HTTP/1.1"), "bad_path"),
    # hop-by-hop abuse, doubled singletons, expectations
    ("Connection names Authorization", request(b"Connection: close, Authorization"), "malformed_request"),
    ("Connection names Host", request(b"Connection: host"), "malformed_request"),
    ("Connection names Content-Length", request(b"Connection: content-length"), "malformed_request"),
    ("Connection names Cookie", request(b"Connection: cookie"), "malformed_request"),
    ("Connection names our own", request(b"Connection: x-outrigger-subject"), "malformed_request"),
    ("Connection names X-Forwarded-For", request(b"Connection: x-forwarded-for"), "malformed_request"),
    ("two Authorizations", request(b"Authorization: Bearer a", b"authorization: Bearer b"), "malformed_request"),
    ("two Idempotency-Keys", request(b"Idempotency-Key: a", b"Idempotency-Key: b"), "malformed_request"),
    ("another expectation", request(b"Expect: 200-ok"), "malformed_request"),
]


@pytest.mark.parametrize(("data", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(data)
    assert caught.value.code == code


@pytest.mark.parametrize(("data", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_byte_by_byte(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError):
        parse_growing(data)


def test_a_plain_request() -> None:
    data = b"GET /orders/7?x=1&y=2 HTTP/1.1\r\nHost: API.Example:8080\r\nX-A:  b \t\r\n\r\n"
    parsed = parse(data)
    assert parsed is not None
    head, length = parsed
    assert length == len(data)
    assert (head.method, head.path, head.query, head.minor) == (b"GET", b"/orders/7", b"x=1&y=2", 1)
    assert head.host == b"api.example"
    assert head.fields == {b"host": b"API.Example:8080", b"x-a": b"b"}
    assert head.lines == [b"X-A: b"]
    assert head.content_length == 0
    assert head.keep_alive


def test_an_unfinished_head_is_no_head_yet() -> None:
    data = request(b"X: y")
    parser = RequestParser(HeadLimits())
    for end in range(1, len(data)):
        assert parser.parse(data[:end]) is None
    assert parser.parse(data) is not None


def test_one_parser_reads_one_request_after_another() -> None:
    parser = RequestParser(HeadLimits())
    for number in range(3):
        parsed = parser.parse(request(b"X: %d" % number))
        assert parsed is not None
        assert parsed[0].fields[b"x"] == b"%d" % number
        body = parser.parse(request(b"Content-Length: 3", line=b"POST / HTTP/1.1") + b"abc")
        assert body is not None
        assert body[0].content_length == 3


def test_what_follows_the_head_is_left_alone() -> None:
    first = request(line=b"GET /1 HTTP/1.1")
    for second in (request(line=b"GET /2 HTTP/1.1"), b"no request at all\r\n\r\n", b"\r\n\r\n", b"\x00"):
        parsed = parse(first + second)
        assert parsed is not None
        assert parsed[0].path == b"/1"
        assert parsed[1] == len(first)


def test_a_body_that_looks_like_a_request_is_a_body() -> None:
    inner = request(line=b"GET /admin HTTP/1.1")
    head = request(b"Content-Length: %d" % len(inner), line=b"POST / HTTP/1.1")
    parsed = parse(head + inner)
    assert parsed is not None
    assert (parsed[0].path, parsed[0].content_length, parsed[1]) == (b"/", len(inner), len(head))


def test_repeated_fields_are_joined_and_each_is_forwarded() -> None:
    head = head_of(request(b"Accept: a", b"accept: b", b"Cookie: c=1", b"Cookie: d=2"))
    assert head.fields[b"accept"] == b"a, b"
    assert head.fields[b"cookie"] == b"c=1; d=2"
    assert head.lines == [b"Accept: a", b"accept: b", b"Cookie: c=1", b"Cookie: d=2"]


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"TE: trailers",
        b"Trailer: X", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", b"Proxy-Authorization: Basic x",
        b"X-Forwarded-For: 6.6.6.6", b"Forwarded: for=6.6.6.6", b"X-Real-IP: 6.6.6.6", b"X-Outrigger-Subject: admin",
        b"x-outrigger-anything: 1", b"X-OUTRIGGER-ROLES: admin", b"traceparent: 00-aa-bb-01",
    ],
)  # fmt: skip
def test_what_is_never_forwarded_as_it_came(line: bytes) -> None:
    assert head_of(request(line, b"X: y")).lines == [b"X: y"]


def test_fields_that_connection_names_end_here() -> None:
    head = head_of(request(b"Connection: x-hop, close", b"X-Hop: 1", b"X: y"))
    assert head.lines == [b"X: y"]
    assert b"x-hop" not in head.fields
    assert not head.keep_alive


@pytest.mark.parametrize(
    ("line", "lines", "kept"),
    [
        (b"GET / HTTP/1.1", (), True),
        (b"GET / HTTP/1.1", (b"Connection: close",), False),
        (b"GET / HTTP/1.1", (b"Connection: Close",), False),
        (b"GET / HTTP/1.1", (b"Connection: keep-alive, close",), False),
        (b"GET / HTTP/1.1", (b"Connection: close, keep-alive",), False),
        (b"GET / HTTP/1.0", (), False),
        (b"GET / HTTP/1.0", (b"Connection: keep-alive",), True),
    ],
)
def test_keep_alive(line: bytes, lines: tuple[bytes, ...], kept: bool) -> None:
    assert head_of(request(*lines, line=line)).keep_alive is kept


@pytest.mark.parametrize(
    ("lines", "line", "upgrade"),
    [
        ((b"Connection: Upgrade", b"Upgrade: websocket"), b"GET / HTTP/1.1", b"websocket"),
        ((b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket"), b"GET / HTTP/1.1", b"websocket"),
        ((b"Upgrade: websocket",), b"GET / HTTP/1.1", b""),
        ((b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x"), b"GET / HTTP/1.1", b""),
        ((b"Connection: Upgrade", b"Upgrade: H2C"), b"GET / HTTP/1.1", b""),
        ((b"Connection: Upgrade", b"Upgrade: websocket, h2c"), b"GET / HTTP/1.1", b""),
        ((b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 3"), b"POST / HTTP/1.1", b""),
        ((b"Connection: Upgrade", b"Upgrade: websocket"), b"GET / HTTP/1.0", b""),
    ],
)
def test_upgrade_is_honoured_only_with_one_meaning(lines: tuple[bytes, ...], line: bytes, upgrade: bytes) -> None:
    assert head_of(request(*lines, line=line)).upgrade == upgrade


def test_absolute_form_becomes_origin_form() -> None:
    head = head_of(request(line=b"GET http://A/x?y HTTP/1.1"))
    assert (head.path, head.query, head.host) == (b"/x", b"y", b"a")
    assert head_of(request(line=b"GET http://a HTTP/1.1")).path == b"/"


def test_http_1_0_needs_no_host() -> None:
    assert head_of(request(line=b"GET / HTTP/1.0", host=False)).host == b""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (request(b"X: " + b"y" * 2000), "head_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 2000, "head_too_large"),
        (b"GET /" + b"y" * 2000, "target_too_long"),
        (request(*[b"X%d: y" % n for n in range(20)]), "head_too_large"),
    ],
)
def test_limits(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(data, HeadLimits(bytes=1024, fields=10))
    assert caught.value.code == code


def test_the_fields_of_the_head_before_are_told_from_others() -> None:
    parser = RequestParser(HeadLimits())

    def read(data: bytes) -> RequestHead:
        parsed = parser.parse(data)
        assert parsed is not None
        assert parsed[1] == len(data)
        return parsed[0]

    first = read(request(b"X: 1", line=b"GET /1?a HTTP/1.1"))
    again = read(request(b"X: 1", line=b"DELETE /2 HTTP/1.1"))
    assert (again.method, again.path, again.query, again.fields) == (b"DELETE", b"/2", b"", first.fields)
    assert read(request(b"X: 2")).fields[b"x"] == b"2"
    assert read(request(b"X: 2", line=b"GET / HTTP/1.0")).keep_alive is False
    assert read(request(b"X: 2")).keep_alive is True


@pytest.mark.parametrize("target", [b"/a\x00", b"/a?\x01", b"/a?b#c", b"/a\x7f", "/\u00e9".encode(), b"/%2e%2e/"])
def test_a_bad_target_before_known_fields_is_refused(target: bytes) -> None:
    parser = RequestParser(HeadLimits())
    assert parser.parse(request(b"X: 1")) is not None
    with pytest.raises(MalformedError):
        parser.parse(request(b"X: 1", line=b"GET %s HTTP/1.1" % target))


def test_fields_that_become_the_sidecars_own_are_read_again() -> None:
    rules = FieldRules(frozenset())
    parser = RequestParser(HeadLimits(), rules=rules)
    data = request(b"X-Email: me")
    before = parser.parse(data)
    rules.own(frozenset({b"x-email"}))
    after = parser.parse(data)
    assert before is not None
    assert after is not None
    assert (b"X-Email: me" in before[0].lines, b"X-Email: me" in after[0].lines) == (True, False)
