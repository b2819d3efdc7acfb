"""Chunked framing is read strictly, in any chunking of the same bytes; nothing is read past the end."""

import pytest

from agent.wire.errors import MalformedError
from agent.wire.h1_body import ChunkedBody, FixedBody, UntilCloseBody, chunk, last_chunk

REFUSED = {
    "no number": b"x\r\n",
    "empty size": b"\r\n",
    "signed size": b"+5\r\nhello\r\n",
    "negative size": b"-5\r\nhello\r\n",
    "0x prefix": b"0x5\r\nhello\r\n",
    "leading space": b" 5\r\nhello\r\n",
    "trailing space": b"5 \r\nhello\r\n",
    "underscore": b"1_0\r\n",
    "size that overflows": b"ffffffffffffffff\r\n",
    "size of 17 digits": b"00000000000000005\r\nhello\r\n",
    "LF after the size": b"5\nhello\r\n",
    "CR alone after the size": b"5\rhello\r\n",
    "LF inside an extension": b"5;a\nhello\r\n",
    "CR inside an extension": b"5;a\r\rhello\r\n",
    "NUL in an extension": b"5;\x00\r\nhello\r\n",
    "endless extension": b"5;" + b"a" * 2000,
    "data too long": b"5\r\nhello!\r\n",
    "data closed by LF": b"5\r\nhello\n0\r\n\r\n",
    "data not closed": b"5\r\nhello0\r\n\r\n",
    "trailer without colon": b"0\r\nx\r\n\r\n",
    "trailer with a space in the name": b"0\r\nx y: z\r\n\r\n",
    "trailer with NUL": b"0\r\nx: \x00\r\n\r\n",
    "folded trailer": b"0\r\nx: y\r\n z\r\n\r\n",
    "Content-Length as trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "Transfer-Encoding as trailer": b"0\r\ntransfer-encoding: chunked\r\n\r\n",
    "Host as trailer": b"0\r\nHost: evil\r\n\r\n",
    "Authorization as trailer": b"0\r\nAuthorization: Bearer x\r\n\r\n",
    "bare LF ends the trailers": b"0\r\nx: y\n\r\n",
    "too many trailers": b"0\r\n" + b"x: %s\r\n" % (b"y" * 900) * 12 + b"\r\n",
}

ACCEPTED = {
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello", []),
    "two chunks": (b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello", []),
    "upper-case size": (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", []),
    "leading zeros": (b"005\r\nhello\r\n000\r\n\r\n", b"hello", []),
    "extensions are dropped": (b'5;a=b; c="d"\r\nhello\r\n0;last\r\n\r\n', b"hello", []),
    "empty body": (b"0\r\n\r\n", b"", []),
    "trailers": (b"1\r\na\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", b"a", [b"X-Sum: 1", b"Y: 2"]),
    "data that looks like framing": (b"7\r\n0\r\n\r\nGE\r\n0\r\n\r\n", b"0\r\n\r\nGE", []),
}


def feed_bytes(body: ChunkedBody, data: bytes) -> None:
    for at in range(len(data)):
        body.feed(data[at : at + 1])


def is_done(body: ChunkedBody | FixedBody | UntilCloseBody) -> bool:
    return body.done


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        ChunkedBody().feed(data)
    body = ChunkedBody()
    with pytest.raises(MalformedError):
        feed_bytes(body, data)


@pytest.mark.parametrize(("data", "payload", "trailers"), ACCEPTED.values(), ids=ACCEPTED)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_accepted_in_any_pieces(data: bytes, payload: bytes, trailers: list[bytes], step: int) -> None:
    body, got, at = ChunkedBody(), b"", 0
    data += b"NEXT"
    while not is_done(body):
        got += body.feed(data[at : at + step])
        at += step
    assert got == payload
    assert body.trailers == trailers
    assert body.rest + data[at:] == b"NEXT"


def test_a_fixed_body_ends_where_it_ends() -> None:
    body = FixedBody(5)
    assert body.feed(b"hel") == b"hel"
    assert not is_done(body)
    assert body.feed(b"loNEXT") == b"lo"
    assert is_done(body)
    assert body.rest == b"NEXT"


def test_a_fixed_body_hands_its_bytes_through_uncopied() -> None:
    data = b"x" * 1000
    assert FixedBody(1000).feed(data) is data


def test_a_body_until_close_is_done_only_then() -> None:
    body = UntilCloseBody()
    assert body.feed(b"abc") == b"abc"
    assert not is_done(body)
    body.close()
    assert is_done(body)


def test_what_is_written_reads_back() -> None:
    wire = chunk(b"hello") + chunk(b"x" * 300) + last_chunk([b"x: y"])
    body = ChunkedBody()
    assert body.feed(wire) == b"hello" + b"x" * 300
    assert is_done(body)
    assert body.trailers == [b"x: y"]
