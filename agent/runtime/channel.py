"""Questions and answers between supervisor and worker over a socketpair: length-prefixed JSON, bounded."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, cast

import orjson

from agent.core.errors import OutriggerError
from agent.core.tasks import spawn

MAX_BYTES = 64 * 1024 * 1024
"""The largest message: far above the snapshot of a registry with all its series."""

_PREFIX = 4

Answering = Callable[[Any], Awaitable[Any]]
"""Answers one kind of question: JSON in, JSON out. What it raises is told to the asker."""


class ChannelError(OutriggerError):
    """No answer came: the other side is gone, was too slow, or failed; the sentence says which."""


class Channel(asyncio.Protocol):
    """One end. Both sides may ask at any time, and answers come in any order."""

    def __init__(
        self,
        handlers: Mapping[str, Answering],
        *,
        on_close: Callable[[], None] = lambda: None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._handlers = handlers
        self._on_close = on_close
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._ids = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._transport: asyncio.Transport | None = None

    async def attach(self, sock: socket.socket) -> None:
        """Talk over this connected stream socket, which belongs to the channel from now on."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    @property
    def is_open(self) -> bool:
        """Whether the other side can be reached."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, what: str, body: Any = None, *, timeout_s: float) -> Any:
        """The other side's answer. Raises ChannelError where there is none."""
        if not self.is_open:
            raise ChannelError("the other process is gone")
        number = next(self._ids)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._send({"id": number, "ask": what, "body": body})
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise ChannelError(f"no answer to {what} within {timeout_s:g} s") from None
        finally:
            del self._asked[number]

    def tell(self, what: str, body: Any = None) -> None:
        """Say something that needs no answer. Nothing happens where the other side is gone."""
        if self.is_open:
            self._send({"id": 0, "ask": what, "body": body})

    def close(self) -> None:
        """Send what was said, then close."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop: whoever waits for an answer gets none."""
        self._transport = None
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ChannelError("the other process ended before it answered"))
        self._on_close()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._buffer += data
        while len(self._buffer) >= _PREFIX:
            size = int.from_bytes(self._buffer[:_PREFIX], "big")
            if size > self._max_bytes:
                self._give_up()
                return
            if len(self._buffer) < _PREFIX + size:
                return
            message = bytes(self._buffer[_PREFIX : _PREFIX + size])
            del self._buffer[: _PREFIX + size]
            self._take(message)

    def _take(self, data: bytes) -> None:
        try:
            message = orjson.loads(data)
            number = message["id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._give_up()
            return
        if "ask" in message:
            spawn(self._answer(number, message["ask"], message.get("body")), name=f"channel: {message['ask']}")
            return
        future = self._asked.get(number)
        if future is None or future.done():
            return  # too late: the asker has given up
        if "error" in message:
            future.set_exception(ChannelError(message["error"]))
        else:
            future.set_result(message.get("body"))

    async def _answer(self, number: int, what: str, body: Any) -> None:
        handler = self._handlers.get(what)
        answer: dict[str, Any]
        try:
            if handler is None:
                raise ChannelError(f"{what} isn't known here")
            answer = {"id": number, "body": await handler(body)}
        except Exception as error:  # told to the asker, who decides
            if not number:
                raise
            answer = {"id": number, "error": str(error) or repr(error)}
        if number and self.is_open:
            try:
                self._send(answer)
            except ChannelError as error:
                self._send({"id": number, "error": str(error)})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            data = orjson.dumps(message)
        except TypeError as error:
            raise ChannelError(f"that is no JSON: {error}") from None
        if len(data) > self._max_bytes:
            raise ChannelError(f"a message of {len(data)} bytes exceeds {self._max_bytes}")
        assert self._transport is not None
        self._transport.writelines((len(data).to_bytes(_PREFIX, "big"), data))

    def _give_up(self) -> None:
        """The other side doesn't keep to the protocol: nothing that follows can be trusted."""
        self._buffer.clear()
        if self._transport is not None:
            self._transport.abort()
