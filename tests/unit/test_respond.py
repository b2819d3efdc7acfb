"""Whatever an application answers: the client gets one well-formed answer or a cut, and nobody gets another's."""

import pytest

from agent.traffic.upstream_settings import PoolSettings
from tests.kit.wire import OK, MockTransport, Seen, Wire, read_answers

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ONE_0 = b"GET / HTTP/1.0\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
EVIL = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"


def answer_to(answer: bytes, request: bytes = GET) -> tuple[Wire, MockTransport]:
    """One request, this answer."""
    wire = Wire(lambda _: answer)
    client = wire.client()
    wire.send(client, request)
    wire.check_books()
    return wire, client


@pytest.mark.parametrize("request_line", [GET, ONE_0, HEAD])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nx: a\nset-cookie: b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 999 Hello\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 000 Hello\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\ncontent-length: 2\r\n\r\nhi" + OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + OK,
        b"HTTP/1.1 103 Early\r\nlink: </a>\r\n\r\n" * 5000,
        b"hello",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    ],
)
def test_what_is_no_answer_becomes_one_of_ours(answer: bytes, request_line: bytes) -> None:
    wire, client = answer_to(answer, request_line)
    [(status, fields, _)] = read_answers(client.written, [request_line.split(b" ")[0]])
    assert (status, fields[b"x-outrigger-reason"]) == (502, b"upstream_garbage")
    assert client.written.count(b"HTTP/1.1 1") <= 16
    assert wire.servers[0].transport.aborted
    assert wire.pool.open == 0


def test_up_to_16_interim_answers_reach_the_client() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nx-outrigger-origin: me\r\nconnection: x\r\nx: 1\r\n\r\n"
    _, client = answer_to(hint * 16 + OK)
    assert client.written.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 16 + b"HTTP/1.1 200 OK\r\n")
    _, client = answer_to(hint * 16 + OK, ONE_0)
    assert client.written.startswith(b"HTTP/1.1 200 OK\r\n")


def test_each_request_has_its_own_count_of_interim_answers() -> None:
    wire = Wire(lambda _: b"HTTP/1.1 100 Continue\r\n\r\n" * 16 + OK)
    client = wire.client()
    for _ in range(3):
        wire.send(client, GET)
    assert [status for status, _, _ in read_answers(client.written)] == [200] * 3
    assert len(wire.servers) == 1


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No\r\n\r\n", b""),
        (b"HTTP/1.1 304 Same\r\ncontent-length: 9\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nx: y\r\n\r\n", b"ok"),
        (b"HTTP/1.1 200 OK\r\nproxy-connection: close\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    ],
)
def test_what_follows_an_answer_is_nobodys(answer: bytes, body: bytes) -> None:
    """Queue poisoning: an application that answers more than it was asked."""
    wire = Wire(lambda seen: answer + EVIL if seen.target == b"/first" else OK)
    first, second = wire.client(), wire.client()
    wire.send(first, GET.replace(b"/ ", b"/first "))
    wire.send(second, GET)
    wire.send(first, GET)
    wire.check_books()
    assert [got for _, _, got in read_answers(first.written)] == [body, b"ok"]
    assert [got for _, _, got in read_answers(second.written)] == [b"ok"]
    assert len(wire.servers) == 2, "the first connection can't be used again"


@pytest.mark.parametrize("request_bytes", [GET, HEAD])
def test_what_comes_late_is_nobodys(request_bytes: bytes) -> None:
    wire = Wire(lambda seen: b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + b"ok" * (seen.method != b"HEAD"))
    first, second = wire.client(), wire.client()
    wire.send(first, request_bytes)
    assert wire.pool.idle == 1
    wire.servers[0].transport.inbox.append(EVIL)
    wire.settle()
    assert wire.pool.idle == 0
    wire.send(second, GET)
    assert b"poison" not in first.written + second.written
    wire.check_books()


@pytest.mark.parametrize("framing", [b"content-length: 64", b"transfer-encoding: chunked"])
def test_an_answer_that_announces_a_body_it_cannot_have_ends_its_connection(framing: bytes) -> None:
    """The body may come later, when somebody else waits for an answer."""
    wire, client = answer_to(b"HTTP/1.1 204 No\r\n%b\r\n\r\n" % framing)
    assert wire.servers[0].transport.aborted
    assert framing not in client.written


def test_head_with_a_body_ends_its_connection() -> None:
    wire, client = answer_to(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison", HEAD)
    assert b"poison" not in client.written
    assert b"content-length: 6\r\n" in client.written
    assert wire.servers[0].transport.aborted
    wire.send(client, GET)
    assert len(wire.servers) == 2


def test_an_application_that_answers_before_it_is_asked() -> None:
    """The connection is gone before the request could be sent on it: the client hears so at once."""

    def speak(transport: MockTransport) -> None:
        transport.protocol.data_received(EVIL)
        transport.step()
        assert transport.lost

    wire = Wire()
    wire.on_connect = speak
    client = wire.client()
    wire.send(client, GET)
    [(status, fields, _)] = read_answers(client.written)
    assert (status, fields[b"x-outrigger-reason"]) == (502, b"upstream_closed")
    wire.check_books()


@pytest.mark.parametrize(
    ("head", "end"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", b"0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", b"k"),
    ],
)
def test_what_follows_the_end_of_a_body_is_nobodys(head: bytes, end: bytes) -> None:
    wire = Wire(lambda _: [head, end + b"HTTP/1.1 200 OK\r\n"])
    client = wire.client()
    wire.send(client, GET)
    assert read_answers(client.written)[0][2] == b"ok"
    assert wire.servers[0].transport.aborted
    wire.check_books()


def test_an_answer_before_the_request_is_complete_ends_both_connections() -> None:
    wire = Wire()
    client = wire.client()
    wire.send(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    wire.servers[0].transport.inbox.append(OK)
    wire.settle()
    [(status, fields, _)] = read_answers(client.written)
    assert (status, fields[b"connection"]) == (200, b"close")
    assert wire.servers[0].transport.aborted
    wire.send(client, b"x" * 97 + GET)
    assert client.written.count(b"HTTP/1.1") == 1
    wire.advance(20)
    assert client.lost


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("request_bytes", [GET, ONE_0])
def test_a_cut_answer_is_never_made_whole(cut: bytes, request_bytes: bytes) -> None:
    wire, client = answer_to(cut, request_bytes)
    wire.servers[0].transport.peer_closes()
    wire.settle()
    assert client.aborted
    assert not client.written.endswith(b"0\r\n\r\n")
    wire.check_books()


@pytest.mark.parametrize(
    "bad", [b"5\nhello", b"x\r\n", b"5\r\nhelloo\r\n", b"2;\n\r\nab\r\n", b"1" * 16 + b"\r\n", b"-1\r\n"]
)
def test_a_malformed_chunk_cuts_the_client(bad: bytes) -> None:
    wire, client = answer_to(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
    wire.servers[0].transport.inbox.append(bad)
    wire.settle()
    assert client.aborted
    assert wire.servers[0].transport.aborted
    wire.check_books()


def test_tiny_chunks_are_joined_and_extensions_dropped() -> None:
    body = b"".join(b"1;%b\r\n%c\r\n" % (b"e" * 5, 97 + n % 26) for n in range(3000))
    _, client = answer_to(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n")
    [(_, _, got)] = read_answers(client.written)
    assert got == bytes(97 + n % 26 for n in range(3000))
    assert b";" not in client.written.split(b"\r\n\r\n")[1]
    assert len(client.written) < 4000


def test_no_protocol_is_switched_that_was_not_asked_for() -> None:
    for protocol in (b"h2c", b"websocket, h2c", b""):
        _, client = answer_to(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: %b\r\n\r\n" % protocol, UPGRADE)
        assert client.written.startswith(b"HTTP/1.1 502 ")
    wire, client = answer_to(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n\r\nhello", UPGRADE)
    assert client.written.startswith(b"HTTP/1.1 101 ")
    assert client.written.endswith(b"\r\n\r\nhello")
    assert wire.context.tunnels == 1


def test_an_upgrade_that_is_refused_leaves_requests_requests() -> None:
    """WebSocket smuggling: after 426 the connection is still read as HTTP, and judged."""
    wire = Wire(
        lambda seen: b"HTTP/1.1 426 No\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n"
    )
    client = wire.client()
    wire.send(client, UPGRADE + b"GET /admin HTTP/1.1\r\nHost: a\r\nX: a\nb: c\r\n\r\n")
    assert [seen.target for seen in wire.seen] == [b"/ws"]
    assert [status for status, _, _ in read_answers(client.written)] == [426, 400]


def test_applications_cannot_speak_as_the_sidecar() -> None:
    _, client = answer_to(
        b"HTTP/1.1 200 OK\r\nX-Outrigger-Origin: agent\r\nx-outrigger-reason: token_missing\r\nkeep-alive: a\r\n"
        b"connection: x-hop, keep-alive\r\nx-hop: a\r\ncontent-length: 0\r\n\r\n"
    )
    [(_, fields, _)] = read_answers(client.written)
    assert fields[b"x-outrigger-origin"] == b"app"
    assert not fields.keys() & {b"x-outrigger-reason", b"keep-alive", b"connection", b"x-hop"}


def test_answers_come_in_the_order_of_their_requests() -> None:
    def answer(seen: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(seen.target), seen.target)

    wire = Wire(answer)
    client = wire.client()
    wire.send(client, b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(50)))
    assert [body for _, _, body in read_answers(client.written)] == [b"/%d" % number for number in range(50)]
    assert len(wire.servers) == 1


def test_a_request_that_waits_for_a_connection_gets_its_own_answer() -> None:
    wire = Wire(lambda seen: None if seen.target == b"/slow" else OK, pool=PoolSettings(max_connections=1))
    slow = wire.client()
    wire.send(slow, GET.replace(b"/ ", b"/slow "))
    wire.servers[0].transport.inbox.append(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow" + EVIL)
    wire.settle()
    fast = wire.client()
    wire.send(fast, GET)
    assert [body for _, _, body in read_answers(slow.written)] == [b"slow"]
    assert [body for _, _, body in read_answers(fast.written)] == [b"ok"]
