"""A request through the sidecar and back, on real sockets."""

from tests.kit.apps import ask, raw_app, split_answer
from tests.kit.sidecar import sidecar


async def test_a_request_reaches_the_application_and_its_answer_the_client() -> None:
    async with (
        raw_app(b"HTTP/1.1 201 Created\r\ncontent-length: 5\r\nx-app: 1\r\n\r\nhello") as app,
        sidecar({"app": {"url": app.url}}) as running,
    ):
        data = b"POST /orders?x=1 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
        status, fields, body = split_answer(await ask(running.inbound, data))
    assert (status, body) == (201, b"hello")
    assert fields[b"x-app"] == b"1"
    assert fields[b"x-outrigger-origin"] == b"app"
    [request] = app.received
    assert request.line == b"POST /orders?x=1 HTTP/1.1"
    assert request.body == b"abc"
    assert request.values(b"host") == [b"shop"]
    assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert len(request.values(b"traceparent")) == 1
