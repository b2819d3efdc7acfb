"""Any bytes from an application, in any pieces: one well-formed answer or a cut, and never somebody else's answer."""

import re
from itertools import pairwise

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kit.wire import OK, Wire, read_answers

REQUESTS = [
    b"GET /victim HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /victim HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /victim HTTP/1.0\r\n\r\n",
    b"GET /victim HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
]
POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
VALID = [
    OK,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x\r\nhello\r\n2\r\nab\r\n0\r\nx: y\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 404 No\r\nset-cookie: a\r\nset-cookie: b\r\nconnection: close, x\r\nx: y\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nframes",
]
SNIPPETS = [
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"\r\n\r\n", b"0\r\n\r\n", b"1", b"content-length: 3\r\n", b"HTTP/1.1 ",
    b"transfer-encoding: chunked\r\n", b"x-outrigger-origin: agent\r\n", b"\xff", b"a\r\n", OK, POISON,
]  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    data = b"".join(draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 0, 1, 1, 2, 7]))
        data = data[:at] + draw(st.one_of(st.sampled_from(SNIPPETS), st.binary(max_size=2))) + data[at + length :]
    return data


_switched = re.compile(rb"(?:HTTP/1\.1 10[023][^\n]*\n(?:[^\r][^\n]*\n)*\r\n)*HTTP/1\.1 101 ").match
Outcome = list[tuple[int, bytes]] | None
"""Status and body of the application's answer; None where it failed, by a refusal or a cut, as its pieces had it."""


def run(request: bytes, pieces: list[bytes], *, closes: bool) -> Outcome:
    """One request gets these bytes; then the connection ends or not, and another client asks something."""
    wire = Wire(lambda seen: None if seen.target == b"/victim" else OK)
    victim, other = wire.client(), wire.client()
    wire.send(victim, request)
    [server] = wire.servers
    for piece in pieces:
        server.transport.inbox.append(piece)
        wire.settle()
    if closes and not server.transport.lost:
        server.transport.peer_closes()
        wire.settle()
    wire.check_books()
    wire.send(other, b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [(status, body) for status, _, body in read_answers(other.written)] == [(200, b"ok")]
    assert len(server.seen) <= 2
    if len(server.seen) == 2:
        assert pieces
        assert not closes, "a connection was used again that had ended"
    wire.advance(300)
    wire.check_books()
    assert wire.context.in_flight == 0
    assert victim.lost or wire.context.tunnels
    return read(victim.written, request.split(b" ")[0])


def read(written: bytes, method: bytes) -> Outcome:
    if _switched(written):
        return [(101, written.partition(b"\r\n\r\n")[2])]
    try:
        found = read_answers(written, [method])
    except h11.RemoteProtocolError as error:
        raise AssertionError(f"the client got {written!r}") from error
    assert len(found) <= 1, "one request, one answer"
    if not found or found[0][1][b"x-outrigger-origin"] == b"agent":
        return None
    return [(status, body) for status, _, body in found]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(REQUESTS), answers(), st.lists(st.integers(0, 1000), max_size=4), st.booleans())
@example(REQUESTS[0], OK + POISON, [], False)
@example(REQUESTS[0], OK + POISON, [len(OK)], False)
@example(REQUESTS[1], OK + POISON, [], False)
@example(REQUESTS[0], b"HTTP/1.1 204 No\r\ncontent-length: 45\r\n\r\n" + POISON, [41], False)
def test_hostile_answers(request: bytes, data: bytes, cuts: list[int], closes: bool) -> None:
    whole = run(request, [data], closes=closes)
    assert run(request, [data[at : at + 1] for at in range(len(data))], closes=closes) == whole
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    assert run(request, [data[a:b] for a, b in pairwise(edges)], closes=closes) == whole
