"""What the log can tell of bytes that are no request."""

import pytest

from agent.wire.first_line import PATH_BYTES, first_line


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"GET /a/%2e%2e/b?secret=1 HTTP/1.1\r\nHost: a\r\n\r\n", (b"GET", b"/a/%2e%2e/b")),
        (b"GET /a#secret HTTP/1.1\r\n", (b"GET", b"/a")),
        (b"GET /a b HTTP/1.1\r\n", (b"GET", b"/a")),
        (b"GET /a\nHost: a\n", (b"GET", b"/a")),
        (b"get /a HTTP/1.1\r\n", (b"get", b"/a")),
        (b"OPTIONS * HTTP/9.9\r\n", (b"OPTIONS", b"*")),
        (b"CONNECT db.example:443 HTTP/1.1\r\n", (b"CONNECT", b"db.example:443")),
        (b"CONNECT user:password@db.example:443 HTTP/1.1\r\n", (b"CONNECT", b"")),
        (b"GET http://user:password@a/x?y HTTP/1.1\r\n", (b"GET", b"/x")),
        (b"GET http://user:password@a HTTP/1.1\r\n", (b"GET", b"")),
        (b"GET /\x00\x1b[31m\xff\x7f HTTP/1.1\r\n", (b"GET", b"/%00%1B[31m%FF%7F")),
        (b"\x16\x03\x01\x02\x00\x01", (b"", b"")),
        (b"A" * 100_000, (b"", b"")),
        (b"", (b"", b"")),
    ],
)
def test_told_where_it_can_be_read(data: bytes, told: tuple[bytes, bytes]) -> None:
    assert first_line(data) == told


def test_bounded() -> None:
    assert first_line(b"GET /" + b"a" * 100_000)[1] == b"/" + b"a" * PATH_BYTES
