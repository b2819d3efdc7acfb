"""Request smuggling against a real sidecar and a real application: refused and cut off, or one meaning for both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.framing_cases import CASES, Case, page
from tests.kit.apps import RawApp, Received, ask, raw_app, socket_app, split_answer
from tests.kit.sidecar import RunningSidecar, sidecar
from tests.kit.wire import OURS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "framing.md"
END = b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
Both = tuple[RunningSidecar, RawApp]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both() -> AsyncIterator[Both]:
    limits = {"header_timeout_s": 0.5, "body_timeout_s": 0.5}
    async with raw_app() as app, sidecar({"app": {"url": app.url}, "limits": limits}) as running:
        yield running, app


def as_seen(request: Received) -> bytes:
    """One request in the form of `Case.seen`."""
    fields = [name + b": " + value for name, value in request.fields if name not in OURS]
    return b"\n".join((request.line.removesuffix(b" HTTP/1.1"), *fields, b"", request.body))


async def what_came_of(both: Both, data: bytes) -> tuple[list[bytes], bytes]:
    """What the application saw, and all that the client got until its connection was closed."""
    running, app = both
    app.received.clear()
    answers = await ask(running.inbound, data)
    return [as_seen(request) for request in app.received], answers


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{case.kind}" for n, case in enumerate(CASES)])
async def test_one_meaning_or_none(both: Both, case: Case) -> None:
    seen, answers = await what_came_of(both, case.sent + END)
    end = [] if case.code else [b"GET /end\nhost: a\n\n"]
    assert seen == [*case.seen, *end]
    if case.code:
        last = answers[answers.rindex(b"HTTP/1.1 ") :]
        status, fields, _ = split_answer(last)
        assert fields[b"x-outrigger-reason"] == case.code.encode()
        assert fields[b"connection"] == b"close"
        assert status in (400, 405, 414, 431)
        assert answers.count(b"HTTP/1.1 ") == len(case.seen) + 1
    else:
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == len(case.seen) + 1


async def test_there_are_rows_enough() -> None:
    assert len(CASES) >= 120
    assert len({case.sent for case in CASES}) == len(CASES)


async def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.integration.framing_cases > docs/reference/framing.md"


@pytest.mark.parametrize(
    "data",
    [
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n",
    ],
)
async def test_a_pause_in_a_body_ends_both_connections(both: Both, data: bytes) -> None:
    """Pause-based desync: what comes after the time-out is nobody's request."""
    running, app = both
    app.received.clear()
    reader, writer = await asyncio.open_connection(*running.inbound)
    writer.write(data)
    status, fields, _ = split_answer(await reader.read())
    assert (status, fields[b"connection"]) == (408, b"close")
    writer.write(END)
    assert await reader.read() == b""
    writer.close()
    assert app.received == []


async def test_a_pause_in_a_head_ends_the_connection(both: Both) -> None:
    seen, answer = await what_came_of(both, b"GET /a HTTP/1.1\r\nHost: a\r\nX: ")
    assert seen == []
    assert split_answer(answer)[0] == 408


async def test_an_application_that_ignores_bodies_answers_only_whom_it_was_asked_by() -> None:
    """CL.0: it takes a request's body for the next request, and so answers twice."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(line), line))

    inner = b"GET /poison HTTP/1.1\r\nHost: a\r\n\r\n"
    attack = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(inner), inner)
    async with socket_app(serve) as url, sidecar({"app": {"url": url}}) as running:
        for _ in range(5):
            assert b"POST /a HTTP/1.1" in await ask(running.inbound, attack)
            assert b"GET /end HTTP/1.1" in await ask(running.inbound, END)
