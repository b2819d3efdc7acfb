"""Every response head has one meaning or is refused: applications and upstreams can be hostile too."""

import pytest

from agent.wire.errors import MalformedError
from agent.wire.h1_response import UNTIL_CLOSE, ResponseParser
from agent.wire.head import ResponseHead


def response(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((line, *lines, b"", b""))


def parse(data: bytes, *, to_head: bool = False) -> ResponseHead:
    parsed = ResponseParser().parse(data, to_head=to_head)
    assert parsed is not None
    return parsed[0]


REFUSED: dict[str, bytes] = {
    "both framings": response(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "both framings, other order": response(b"transfer-encoding: chunked", b"content-length: 0"),
    "two lengths that differ": response(b"Content-Length: 5", b"Content-Length: 6"),
    "two lengths that agree": response(b"Content-Length: 5", b"content-length: 5"),
    "listed lengths": response(b"Content-Length: 5, 5"),
    "signed length": response(b"Content-Length: +5"),
    "negative length": response(b"Content-Length: -1"),
    "hexadecimal length": response(b"Content-Length: 0x5"),
    "length that overflows": response(b"Content-Length: 9999999999999999999"),
    "empty length": response(b"Content-Length:"),
    "gzip, chunked": response(b"Transfer-Encoding: gzip, chunked"),
    "chunked twice": response(b"Transfer-Encoding: chunked, chunked"),
    "chunked, identity": response(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    "identity": response(b"Transfer-Encoding: identity"),
    "xchunked": response(b"Transfer-Encoding: xchunked"),
    "chunked in HTTP/1.0": response(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK"),
    "space before colon": response(b"Content-Length : 5"),
    "folded line": response(b"X: a", b" b"),
    "folded with tab": response(b"X: a", b"\tSet-Cookie: b=1"),
    "bare LF between fields": response(b"X: a\nSet-Cookie: b=1"),
    "bare CR between fields": response(b"X: a\rSet-Cookie: b=1"),
    "bare LF after the status line": b"HTTP/1.1 200 OK\nX: a\r\n\r\n",
    "NUL in a value": response(b"X: a\x00b"),
    "control character in a value": response(b"X: a\x1bb"),
    "NUL in the reason": response(line=b"HTTP/1.1 200 O\x00K"),
    "CR in the reason": response(line=b"HTTP/1.1 200 OK\rX: a"),
    "escape in the reason": response(line=b"HTTP/1.1 200 \x1b[0m"),
    "no colon": response(b"X"),
    "empty name": response(b": a"),
    "name with a space": response(b"X Y: a"),
    "name beyond ASCII": response(b"X\xe4: a"),
    "status 000": response(line=b"HTTP/1.1 000 no"),
    "status 099": response(line=b"HTTP/1.1 099 no"),
    "status 600": response(line=b"HTTP/1.1 600 no"),
    "status 999": response(line=b"HTTP/1.1 999 no"),
    "two digits": response(line=b"HTTP/1.1 20 no"),
    "four digits": response(line=b"HTTP/1.1 2000 no"),
    "signed status": response(line=b"HTTP/1.1 +20 no"),
    "no status": response(line=b"HTTP/1.1"),
    "two spaces": response(line=b"HTTP/1.1  200 OK"),
    "tab": response(line=b"HTTP/1.1\t200 OK"),
    "status without a blank after": response(line=b"HTTP/1.1 200OK"),
    "HTTP/2.0": response(line=b"HTTP/2.0 200 OK"),
    "HTTP/1.2": response(line=b"HTTP/1.2 200 OK"),
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "lower case": response(line=b"http/1.1 200 OK"),
    "ICY": response(line=b"ICY 200 OK"),
    "RTSP": response(line=b"RTSP/1.0 200 OK"),
    "an empty line first": b"\r\n" + response(b"Content-Length: 0"),
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two locations": response(b"Location: /a", b"location: /b"),
    "two content types": response(b"Content-Type: text/html", b"Content-Type: text/plain"),
    "too many fields": response(*[b"X-%d: a" % number for number in range(257)]),
    "too many of one field": response(*[b"X: a"] * 20000),
    "too large": response(b"X: " + b"a" * 70000),
    "endless": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000,
    "garbage without end": b"SSH-2.0-OpenSSH_9.9",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes) -> None:
    for to_head in (False, True):
        with pytest.raises(MalformedError) as caught:
            ResponseParser().parse(data, to_head=to_head)
        assert caught.value.code == "upstream_garbage"


@pytest.mark.parametrize("data", [data for data in REFUSED.values() if len(data) < 1000])
def test_refused_byte_by_byte(data: bytes) -> None:
    parser = ResponseParser()

    def feed() -> None:
        for end in range(1, len(data) + 1):
            parser.parse(data[:end], to_head=False)

    with pytest.raises(MalformedError):
        feed()


@pytest.mark.parametrize(
    ("data", "length", "kept"),
    [
        (response(b"Content-Length: 5"), 5, True),
        (response(b"Content-Length: 5", b"Connection: close"), 5, False),
        (response(b"Content-Length: 5", b"Connection: x, Close"), 5, False),
        (response(b"Transfer-Encoding: Chunked"), -1, True),
        (response(), UNTIL_CLOSE, False),
        (response(b"Connection: keep-alive"), UNTIL_CLOSE, False),
        (response(b"Content-Length: 5", line=b"HTTP/1.0 200 OK"), 5, False),
        (response(b"Content-Length: 5", b"Connection: keep-alive", line=b"HTTP/1.0 200 OK"), 5, True),
        (response(b"Content-Length: 5", b"Connection: close, keep-alive"), 5, False),
        (response(line=b"HTTP/1.1 204 No"), 0, True),
        (response(b"Content-Length: 0", line=b"HTTP/1.1 204 No"), 0, True),
        (response(b"Content-Length: 7", line=b"HTTP/1.1 204 No"), 0, False),
        (response(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 204 No"), 0, False),
        (response(b"Content-Length: 7", line=b"HTTP/1.1 103 Hints"), 0, False),
        (response(b"Content-Length: 7", line=b"HTTP/1.1 304 Same"), 0, True),
        (response(b"Proxy-Connection: close", b"Content-Length: 0"), 0, True),
    ],
)
def test_framing(data: bytes, length: int, kept: bool) -> None:
    head = parse(data)
    assert (head.content_length, head.keep_alive) == (length, kept)


def test_the_answer_to_head_has_no_body_however_it_is_framed() -> None:
    assert not parse(response(b"Transfer-Encoding: chunked"), to_head=True).chunked
    assert parse(response(b"Content-Length: 5"), to_head=True).content_length == 5


def test_what_is_not_handed_on() -> None:
    head = parse(
        response(
            b"X-Outrigger-Origin: agent", b"x-outrigger-reason: overloaded", b"X_Outrigger_Origin: agent", b"TE: x",
            b"Keep-Alive: timeout=5", b"Connection: X-Hop", b"X-Hop: 1", b"Upgrade: h2c", b"Content-Length: 0",
            b"Proxy-Authenticate: Basic", b"Trailer: X", b"Set-Cookie: a=1", b"set-cookie:b=2", b"X:  y \t",
        )
    )  # fmt: skip
    assert head.lines == [b"Set-Cookie: a=1", b"set-cookie: b=2", b"X: y"]
    assert b"x-hop" not in head.fields


def test_connection_cannot_name_the_framing() -> None:
    head = parse(response(b"Connection: content-length, transfer-encoding", b"Content-Length: 5"))
    assert head.content_length == 5
    head = parse(response(b"Connection: upgrade", b"Upgrade: websocket", line=b"HTTP/1.1 101 Switching"))
    assert head.upgrade == b"websocket"


def test_what_follows_is_left_alone() -> None:
    first = response(b"Content-Length: 5")
    parsed = ResponseParser().parse(first + b"hello" + response(line=b"HTTP/1.1 500 X"), to_head=False)
    assert parsed is not None
    assert parsed[1] == len(first)


def test_an_unfinished_head_is_no_head_yet() -> None:
    data = response(b"X: y", b"Content-Length: 0")
    for end in range(len(data)):
        assert ResponseParser().parse(data[:end], to_head=False) is None


def test_reasons_are_handed_on_as_they_are() -> None:
    assert parse(response(line=b"HTTP/1.1 299 Gr\xfc\xdfe, Welt")).reason == "Grüße, Welt".encode("latin-1")
    assert parse(response(line=b"HTTP/1.1 200")).reason == b""
