"""Steps about connections that live long: streaming, WebSocket, and a reload in the middle."""

import asyncio
import signal
from collections.abc import AsyncIterator
from itertools import pairwise
from time import monotonic

from aiohttp import WSMsgType

from examples.demo.patience import until
from examples.demo.talk import Talk

_OLD, _NEW = "limit: 5,", "limit: 500,"


async def streamed(talk: Talk) -> None:
    """Server-sent events, one by one."""
    screen = talk.screen
    screen.step("Streaming", "Each event is passed on when it comes. Nothing is collected.")
    screen.sent("GET /events?count=5   " + screen.paint("server-sent events", "faint"))
    begin = monotonic()
    times = []
    async for event in _events(talk, 5):
        times.append(monotonic() - begin)
        screen.got(f"after {times[-1]:.2f} s: {event}")
    spread = [later - sooner for sooner, later in pairwise(times)]
    screen.check(len(times) == 5 and max(spread, default=0) > 0.1, "five events, one after the other", times)


async def upgraded(talk: Talk) -> None:
    """A WebSocket through the sidecar."""
    screen, world = talk.screen, talk.world
    screen.step("WebSocket", "The same policies decide about the upgrade; then bytes pass both ways.")
    headers = {"Authorization": f"Bearer {await world.token('alice', 'reader')}"}
    heard = []
    screen.sent("GET /ws   " + screen.paint("Upgrade: websocket, token of alice", "faint"))
    async with world.http.ws_connect(world.url("inbound") + "/ws", headers=headers) as socket:
        screen.got("101, a WebSocket")
        for text in ("ahoy", "cast off"):
            screen.sent(text)
            await socket.send_str(text)
            message = await socket.receive(timeout=5)
            if message.type is WSMsgType.TEXT:
                heard.append(message.data)
                screen.got(message.data)
    screen.check(heard == ["orders heard: ahoy", "orders heard: cast off"], "both messages came back", heard)


async def reloaded(talk: Talk) -> None:
    """A new limit in force while a stream runs; a bad file is refused."""
    screen, config = talk.screen, talk.world.config
    screen.step("Reload", "A limit is changed in the file while a stream runs. Nobody is disconnected.")
    token = await talk.world.token("bob", "reader")
    before = await talk.ask("/orders/1", token, as_whom="token of bob, who has used up his limit")
    stream = asyncio.ensure_future(_count(talk, 6))
    await asyncio.sleep(0.1)
    config.write_text(config.read_text().replace(_OLD, _NEW))
    screen.sent(f"in the file: {_OLD[:-1]} → {_NEW[:-1]}")
    screen.got(await _reload(talk))
    after = await talk.ask("/orders/1", token, as_whom="token of bob, once more")
    screen.check((before.status, after.status) == (429, 200), "the new limit is in force", (before, after))
    count = await stream
    screen.check(count == 6, "the stream that ran meanwhile is complete: 6 events", count)
    config.write_text(config.read_text().replace(_NEW, "limit: -1,"))
    screen.sent("in the file: a mistake, limit: -1")
    told = await _reload(talk)
    screen.got(told)
    screen.check("refused" in told, "refused; the old configuration stays in force")
    config.write_text(config.read_text().replace("limit: -1,", _NEW))
    await _reload(talk)


async def _events(talk: Talk, count: int) -> AsyncIterator[str]:
    headers = {"Authorization": f"Bearer {await talk.world.token('alice', 'reader')}"}
    url = f"{talk.world.url('inbound')}/events?count={count}"
    async with talk.world.http.get(url, headers=headers) as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                yield line.decode().strip()


async def _count(talk: Talk, count: int) -> int:
    return len([event async for event in _events(talk, count)])


async def _reload(talk: Talk) -> str:
    """Ask for a reload as an operator does, and tell how it went."""

    def reports() -> list[str]:
        return [
            f"{line['level']}: {line['message']}\n{line.get('error', '')}".replace(f"{talk.world.folder}/", "").strip()
            for line in talk.world.log_lines()
            if "configuration" in line.get("message", "")
        ]

    async def news() -> list[str]:
        return reports()[known:]

    known = len(reports())
    talk.world.children["sidecar"].send(signal.SIGHUP)
    return (await until(news))[-1]
