"""Any bytes from a client, in any pieces: one reading, no hang, no exception, and nothing forwarded that wasn't sent.

What is forwarded is judged by two parsers that aren't ours (h11 and llhttp), what was sent by the most lenient reading.
"""

import re
from itertools import pairwise
from typing import NamedTuple

import httptools
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kit.wire import OURS, Seen, Wire, read_answers

HEAD = b"GET /a HTTP/1.1\r\nHost: a\r\n"
VALID = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /h?x=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\n",
    b"PUT /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /u HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET /0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"DELETE /d/../x%41 HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nCookie: b=2\r\nX: \r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: x\r\nX: y\r\n\r\n",
    b"GET http://a/abs HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 43\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n\r\n",
]
SNIPPETS = [
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b"\r\n\r\n", b"0\r\n\r\n", b"0", b"1", b";", b",", b"%2f",
    b"Content-Length: 3\r\n", b"content-length: 0\r\n", b"Content_Length: 9\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Host: b\r\n", b"Connection: close\r\n", b"Connection: content-length\r\n",
    b"X_Forwarded_For: 6.6.6.6\r\n", b"X-Outrigger-Subject: root\r\n", b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n",
    b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", b" HTTP/1.1", b"\xff", b"chunked", b"a\r\n", HEAD,
]  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Some valid requests, cut, spliced and spoilt in a few places."""
    data = b"".join(draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 0, 0, 1, 1, 2, 7]))
        new = draw(st.one_of(st.sampled_from(SNIPPETS), st.just(b""), st.binary(max_size=2)))
        if draw(st.integers(0, 9)) == 0:
            new = data[at : at + draw(st.integers(1, 30))] * 2
        data = data[:at] + new + data[at + length :]
    return data[: draw(st.integers(1, len(data)))] if data and draw(st.integers(0, 3)) == 0 else data


class Outcome(NamedTuple):
    """What came of some bytes, whatever their pieces."""

    seen: list[Seen]
    statuses: list[int]
    """Of the answers; 400 stands for every way to refuse."""
    is_kept: bool
    """Whether the client could send a further request."""


def run(pieces: list[bytes]) -> Outcome:
    """Send the pieces, check what must always be true, and let the clock run until everything is over."""
    wire = Wire(
        lambda seen: b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + (b"" if seen.method == b"HEAD" else b"ok")
    )
    client = wire.client()
    wire.send(client, *pieces)
    wire.check_books()
    seen = wire.seen
    is_kept = not (client.eof_sent or client.closing)
    wire.advance(200)
    wire.check_books()
    assert client.lost, "the connection hangs"
    assert wire.context.in_flight == 0
    assert wire.seen == seen
    for server in wire.servers:
        assert as_llhttp_reads(server.transport.written)[: len(server.seen)] == server.seen
    answers = read_answers(client.written, [one.method for one in seen])
    statuses = [status if status == 200 else 400 for status, _, _ in answers]
    assert statuses.count(200) == len(seen)
    assert 400 not in statuses[:-1], "after a refusal nothing may be answered"
    return Outcome(seen, statuses, is_kept)


def as_llhttp_reads(data: bytes) -> list[Seen]:
    """All complete requests in `data`."""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    reader.parser = parser
    while data:
        try:
            parser.feed_data(data)
            break
        except httptools.HttpParserUpgrade as stop:
            data = data[stop.args[0] :]
            parser = reader.parser = httptools.HttpRequestParser(reader)
    return reader.all


class _Reader:
    def __init__(self) -> None:
        self.parser: httptools.HttpRequestParser
        self.all: list[Seen] = []
        self.url = self.body = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_message_begin(self) -> None:
        self.url = self.body = b""
        self.fields = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in OURS:
            self.fields.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.all.append(Seen(self.parser.get_method(), self.url, tuple(self.fields), self.body))


def most_lenient(data: bytes) -> list[tuple[bytes, bytes]]:
    """(method, body) of every request that any reading could find, one after another."""
    found = []
    while (data := re.sub(rb"\A(?:\r\n)+", b"", data)) and b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        fields = {
            name.strip().lower(): value.strip() for name, _, value in (x.partition(b":") for x in head.split(b"\n"))
        }
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            body = b""
            while match := re.match(rb"([0-9A-Fa-f]+)[^\n]*\n", rest):
                size = int(match[1], 16)
                rest = rest[match.end() :]
                if size == 0:
                    break
                body, rest = body + rest[:size], rest[size:].removeprefix(b"\r\n")
            while rest[:2] != b"\r\n" and b"\n" in rest:
                rest = rest.partition(b"\n")[2]
            rest = rest[2:]
        else:
            length = int(fields[b"content-length"]) if fields.get(b"content-length", b"").isdigit() else 0
            body, rest = rest[:length], rest[length:]
        found.append((head.split(b" ")[0], body))
        data = rest
    return found


def judge(data: bytes, cuts: list[int]) -> None:
    whole = run([data])
    assert [(one.method, one.body) for one in whole.seen] == most_lenient(data)[: len(whole.seen)]
    for one in whole.seen:
        names = [name for name, _ in one.fields]
        assert names.count(b"host") == 1
        assert {b"content-length", b"transfer-encoding"} & set(names) != {b"content-length", b"transfer-encoding"}
        assert not [name for name in names if name.replace(b"_", b"-").startswith((b"x-outrigger", b"x-forwarded"))]
    assert run([data[at : at + 1] for at in range(len(data))]) == whole
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    assert run([data[a:b] for a, b in pairwise(edges)]) == whole


CUTS = st.lists(st.integers(0, 1000), max_size=4)


@settings(max_examples=250, deadline=None)
@given(streams(), CUTS)
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\xff\x00a\rbGET / HTTP/1.1\r\nHost: a\r\n\r\n", [])
@example(HEAD + b"Proxy-Connection: close\r\n\r\n" + VALID[0] * 2 + b"GET", [])
@example(b"\r\n\r\n\r" + VALID[0], [])
@example(b"GET /a HTTP/1.1\r\nHost: a\r\n\n\r\n" + VALID[0], [])
def test_spoilt_requests(data: bytes, cuts: list[int]) -> None:
    judge(data, cuts)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text("\r\n :/GETHP1.0;,\t", max_size=60).map(str.encode)), CUTS)
def test_any_bytes(data: bytes, cuts: list[int]) -> None:
    judge(data, cuts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(VALID), min_size=1, max_size=6), CUTS)
def test_valid_requests_all_arrive_in_order(requests: list[bytes], cuts: list[int]) -> None:
    ends = [number for number, data in enumerate(requests) if b"Connection: close" in data]
    expected = len(requests) if not ends else ends[0] + 1
    data = b"".join(requests)
    assert len(run([data]).seen) == expected
    judge(data, cuts)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"5", b"\r\n", b"hello", b";", b"0", b"\n", b" ", b"x: y", b"A", b'="', b"\r"]), max_size=14
    ),
    CUTS,
)
def test_chunked_bodies(parts: list[bytes], cuts: list[int]) -> None:
    judge(HEAD.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + VALID[0], cuts)
