"""The request as the application gets it: written anew, with one framing, and nothing that a client says for us."""

import pytest

from agent.policies.timeout import Settings as TimeoutSettings
from agent.policies.timeout import Timeouts
from agent.proxy.settings import LimitsSettings
from tests.kit.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def forwarded(data: bytes, **limits: object) -> bytes:
    """The bytes that the application gets for these bytes of a client."""
    wire = Wire(limits=LimitsSettings.model_validate(limits))
    wire.send(wire.client(), data)
    wire.check_books()
    return wire.servers[0].transport.written


def lines_of(data: bytes, **limits: object) -> list[bytes]:
    return forwarded(data, **limits).partition(b"\r\n\r\n")[0].split(b"\r\n")


def test_the_whole_head() -> None:
    sent = b"GET http://A:80/b/../c?d=%2f HTTP/1.1\r\nX-One:  1 \r\nHost: a:80\r\nX-Two:2\r\nTE: trailers\r\n\r\n"
    head = forwarded(sent)
    assert head.endswith(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    assert lines[:4] == [b"GET /c?d=%2f HTTP/1.1", b"host: a:80", b"X-One: 1", b"X-Two: 2"]
    names = [line.partition(b":")[0] for line in lines[4:]]
    assert names == [
        b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded",
        b"x-outrigger-deadline-ms", b"traceparent",
    ]  # fmt: skip
    assert lines[4] == b"x-forwarded-for: 10.1.1.1"


@pytest.mark.parametrize(
    ("sent", "framing", "body"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", [], b""),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", [b"content-length: 0"], b""),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc", [b"content-length: 3"], b"abc"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n3;\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n",
            [b"transfer-encoding: chunked"],
            b"4\r\nabcd\r\n0\r\n\r\n",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
            [b"connection: upgrade", b"upgrade: WebSocket"],
            b"",
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", [], b""),
    ],
)
def test_framing_is_ours(sent: bytes, framing: list[bytes], body: bytes) -> None:
    head, _, rest = forwarded(sent).partition(b"\r\n\r\n")
    names = (b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"keep-alive")
    assert [line for line in head.split(b"\r\n") if line.partition(b":")[0].lower() in names] == framing
    assert rest == body


def test_http_1_0_without_host_gets_the_targets() -> None:
    assert lines_of(b"GET / HTTP/1.0\r\n\r\n")[:2] == [b"GET / HTTP/1.1", b"host: 127.0.0.1:1"]


@pytest.mark.parametrize("trailer", [b"X-Sum: 1", b"grpc-status: 0"])
def test_trailers_go_on_only_where_that_is_asked_for(trailer: bytes) -> None:
    sent = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n%b\r\n\r\n" % trailer
    assert forwarded(sent).endswith(b"1\r\na\r\n0\r\n\r\n")
    assert forwarded(sent, trailers="forward").endswith(b"1\r\na\r\n0\r\n%b\r\n\r\n" % trailer)


@pytest.mark.parametrize(
    "trailer",
    [b"X-Outrigger-Subject: root", b"x_outrigger_subject: root", b"X-Forwarded-For: 6.6.6.6", b"X-Email: root"],
)
def test_trailers_say_no_more_than_fields_may(trailer: bytes) -> None:
    """Servers that merge trailers into the fields would believe them."""
    wire = Wire(limits=LimitsSettings(trailers="forward"))
    wire.surface.rules.own(frozenset({b"x-email"}))
    sent = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n%b\r\n\r\n" % trailer
    wire.send(wire.client(), sent)
    assert wire.servers[0].transport.written.endswith(b"\r\n\r\n0\r\nX: y\r\n\r\n")


def test_the_token_stays_here_where_the_route_says_so() -> None:
    wire = Wire()
    wire.plan.forward_token, wire.plan.changes_request = False, True
    wire.send(wire.client(), b"GET / HTTP/1.1\r\nHost: a\r\nAUTHORIZATION: Bearer a\r\nX-Authorization: b\r\n\r\n")
    assert b"bearer" not in wire.servers[0].transport.written.lower()
    assert b"X-Authorization: b\r\n" in wire.servers[0].transport.written


def test_a_body_that_stops_coming_ends_the_connection() -> None:
    """What came after the 408 would be the rest of that body, or the next request: nobody knows."""
    wire = Wire()
    client = wire.client()
    wire.send(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    wire.advance(31)
    assert client.written.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close\r\n" in client.written
    wire.send(client, b"x" * 97 + GET)
    assert client.written.count(b"HTTP/1.1 ") == 1
    assert wire.servers[0].transport.aborted


def test_a_client_that_leaves_within_its_body_ends_the_applications_connection() -> None:
    wire = Wire()
    client = wire.client()
    wire.send(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    client.peer_closes()
    wire.settle()
    assert wire.servers[0].transport.aborted
    assert wire.seen == []
    wire.check_books()


def cut_upload(wire: Wire, seconds: int) -> bytes:
    """What a client gets that sends one byte a second of a body that never ends."""
    client = wire.client()
    wire.send(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(seconds):
        wire.send(client, b"x")
        wire.advance(1)
    return client.written


def test_max_duration_ends_an_upload_that_trickles() -> None:
    wire = Wire()
    settings = TimeoutSettings(max_duration_s=5)
    wire.plan.timeouts = Timeouts(settings, route="all", registry=wire.registry)
    assert cut_upload(wire, 4) == b""
    wire.advance(2)
    answer = wire.clients[0].written
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"connection: close" in answer


def test_an_upload_may_take_its_time() -> None:
    assert cut_upload(Wire(), 40) == b""
