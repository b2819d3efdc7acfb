"""The channel between supervisor and worker: answers in any order, bounded in size and time, clear about its end."""

import asyncio
import socket
from typing import Any

import pytest

from agent.runtime.channel import Channel, ChannelError

LOOPS = ("asyncio", "uvloop")


class Pair:
    """Two ends; the far one answers a few questions."""

    def __init__(self, *, max_bytes: int = 1_000_000) -> None:
        self.gate = asyncio.Event()
        self.told: list[Any] = []
        self.heard = asyncio.Event()
        self.closed = 0
        handlers = {name: getattr(self, name) for name in ("echo", "wait", "fail", "note", "big", "odd")}
        self.near = Channel({"echo": self.echo}, on_close=self.count, max_bytes=max_bytes)
        self.far = Channel(handlers, on_close=self.count, max_bytes=max_bytes)

    def count(self) -> None:
        self.closed += 1

    async def echo(self, body: Any) -> Any:
        return body

    async def wait(self, body: Any) -> Any:
        await self.gate.wait()
        return body

    async def fail(self, body: Any) -> Any:
        raise ZeroDivisionError("by zero")

    async def note(self, body: Any) -> Any:
        self.told.append(body)
        self.heard.set()

    async def big(self, body: Any) -> Any:
        return "x" * body

    async def odd(self, body: Any) -> Any:
        return object()

    async def start(self) -> "Pair":
        one, other = socket.socketpair()
        await self.near.attach(one)
        await self.far.attach(other)
        return self


@pytest.fixture
async def pair() -> Any:
    pair = await Pair().start()
    yield pair
    pair.near.close()
    pair.far.close()


async def test_answers_come_in_any_order(pair: Pair) -> None:
    slow = asyncio.ensure_future(pair.near.ask("wait", "slow", timeout_s=5))
    assert await pair.near.ask("echo", {"a": [1, None, "ä"]}, timeout_s=5) == {"a": [1, None, "ä"]}
    assert not slow.done()
    pair.gate.set()
    assert await slow == "slow"
    assert await asyncio.gather(*(pair.near.ask("echo", n, timeout_s=5) for n in range(200))) == list(range(200))


async def test_both_sides_ask_and_large_messages_pass(pair: Pair) -> None:
    text = "y" * 900_000
    assert await pair.far.ask("echo", text, timeout_s=5) == text
    assert len(await pair.near.ask("big", 900_000, timeout_s=5)) == 900_000


async def test_telling_needs_no_answer(pair: Pair) -> None:
    pair.near.tell("note", 1)
    await asyncio.wait_for(pair.heard.wait(), 5)
    assert pair.told == [1]


@pytest.mark.parametrize(
    ("what", "body", "sentence"),
    [
        ("fail", None, "by zero"),
        ("nothing", None, "nothing isn't known here"),
        ("wait", None, r"no answer to wait within 0\.05 s"),
        ("odd", None, "no JSON"),
        ("big", 2_000_000, "exceeds 1000000"),
        ("echo", "x" * 2_000_000, "exceeds 1000000"),
        ("echo", object(), "no JSON"),
    ],
)
async def test_no_answer_says_why_and_harms_nothing(pair: Pair, what: str, body: Any, sentence: str) -> None:
    with pytest.raises(ChannelError, match=sentence):
        await pair.near.ask(what, body, timeout_s=0.05 if what == "wait" else 5)
    assert await pair.near.ask("echo", "still here", timeout_s=5) == "still here"


async def test_a_late_answer_is_thrown_away(pair: Pair) -> None:
    with pytest.raises(ChannelError):
        await pair.near.ask("wait", timeout_s=0.01)
    pair.gate.set()
    assert await pair.near.ask("echo", 1, timeout_s=5) == 1


async def test_the_end_is_told_to_everyone(pair: Pair) -> None:
    waiting = asyncio.ensure_future(pair.near.ask("wait", timeout_s=5))
    await asyncio.sleep(0)
    pair.far.close()
    with pytest.raises(ChannelError, match="ended before it answered"):
        await waiting
    assert not pair.near.is_open
    with pytest.raises(ChannelError, match="is gone"):
        await pair.near.ask("echo", timeout_s=5)
    pair.near.tell("note")
    assert pair.closed == 2


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{]", b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x011"]
)
async def test_garbage_ends_the_channel(data: bytes) -> None:
    one, other = socket.socketpair()
    ended = asyncio.Event()
    channel = Channel({}, on_close=ended.set)
    await channel.attach(one)
    other.send(data)
    await asyncio.wait_for(ended.wait(), 5)
    other.close()


async def test_any_chunking_means_the_same() -> None:
    one, other = socket.socketpair()
    heard: list[Any] = []
    done = asyncio.Event()

    async def note(body: Any) -> Any:
        heard.append(body)
        if len(heard) == 3:
            done.set()

    channel = Channel({"note": note})
    await channel.attach(one)
    message = b'{"id":0,"ask":"note","body":7}'
    for byte in (len(message).to_bytes(4, "big") + message) * 3:
        other.send(bytes([byte]))
        await asyncio.sleep(0)
    await asyncio.wait_for(done.wait(), 5)
    assert heard == [7, 7, 7]
    channel.close()
    other.close()
