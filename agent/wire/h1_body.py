"""Where a body ends: fixed, chunked and until-close bodies as sans-io readers that never look past their end.

A reader is fed what came from the socket and hands out payload; when it is `done`, `rest` holds the bytes that belong
to the next message. Payload of a fixed body is handed through without a copy.
"""

import re

from agent.wire.errors import MalformedError

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t\x20-\x7e\x80-\xff]*")
_LINE_BYTES = 1024  # a chunk-size line with its extension, or one trailer field
_TRAILER_BYTES = 8192
_TRAILER_FIELDS = 64
_OVERHEAD_BYTES = 16384
"""Framing that may come beyond 16 bytes a chunk and twice its data: made of extensions, it would cost us and carry
nothing (CVE-2023-39326)."""
_TRAILER_REFUSED = frozenset(
    {b"transfer-encoding", b"content-length", b"host", b"trailer", b"te", b"connection", b"authorization"}
    | {b"cookie", b"set-cookie", b"content-encoding", b"content-type", b"content-range", b"expect", b"upgrade"}
)
"""Fields that change how a message is framed, routed or authorised: in a trailer they are refused (RFC 9110, 6.5.1)."""


class FixedBody:
    """A body of `Content-Length` bytes."""

    __slots__ = ("done", "remaining", "rest")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Payload of `data`."""
        if len(data) <= self.remaining:
            self.remaining -= len(data)
            self.done = self.remaining == 0
            return data
        piece, self.rest = data[: self.remaining], data[self.remaining :]
        self.remaining, self.done = 0, True
        return piece


class UntilCloseBody:
    """A response body that ends when the connection does; whoever owns the connection says so by `close`."""

    __slots__ = ("done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """All of it is payload."""
        return data

    def close(self) -> None:
        """The connection has ended, and with it the body."""
        self.done = True


class ChunkedBody:
    """A chunked body (RFC 9112, section 7.1), read strictly; chunk extensions are dropped, trailers are kept apart."""

    __slots__ = ("_left", "_line", "_overhead", "_pending", "_trailer_bytes", "done", "rest", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers: list[bytes] = []
        """Trailer fields, each ``name: value``, complete once the body is done."""
        self._pending = b""
        self._overhead = self._trailer_bytes = 0
        self._left = 0  # bytes of the current chunk still to come; -1: its closing CRLF is due
        self._line = self._size_line

    def feed(self, data: bytes) -> bytes:
        """Payload of `data`, joined. Raises MalformedError."""
        if self._pending:
            data, self._pending = self._pending + data, b""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._left > 0:
                piece = data[at : at + self._left] if at or self._left < end else data
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._left = -1
            elif self._left < 0:
                if end - at < 2:
                    if data[at : at + 1] != b"\r":
                        raise MalformedError("a chunk that isn't closed by CRLF")
                    break
                if data[at : at + 2] != b"\r\n":
                    raise MalformedError("a chunk that isn't closed by CRLF")
                at += 2
                self._left = 0
            else:
                stop = data.find(b"\r\n", at, at + _LINE_BYTES)
                if stop < 0:
                    self._check_unfinished(data[at:])
                    break
                self._line(data[at:stop])
                at = stop + 2
        if self.done:
            self.rest = data[at:]
        else:
            self._pending = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _check_unfinished(self, line: bytes) -> None:
        if len(line) >= _LINE_BYTES:
            raise MalformedError("a chunk-size or trailer line without end")
        if b"\n" in line or b"\r" in line[:-1]:
            raise MalformedError("a bare CR or LF in the chunked framing")

    def _size_line(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise MalformedError(f"the chunk size {line[:40]!r} is no hexadecimal number")
        self._left = size = int(match[1], 16)
        self._overhead = max(0, self._overhead + len(line) - 16 - 2 * size)
        if self._overhead > _OVERHEAD_BYTES:
            raise MalformedError("chunks that are mostly extensions")
        if size == 0:
            self._line = self._trailer_line

    def _trailer_line(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        match = _TRAILER.fullmatch(line)
        if match is None or match[1].lower() in _TRAILER_REFUSED:
            name = line[: line.find(b":") + 1]
            raise MalformedError(f"the trailer field {name[:40]!r} is malformed or not allowed in a trailer")
        self.trailers.append(line)
        self._trailer_bytes += len(line)
        if self._trailer_bytes > _TRAILER_BYTES or len(self.trailers) > _TRAILER_FIELDS:
            raise MalformedError(f"more than {_TRAILER_BYTES} bytes or {_TRAILER_FIELDS} fields of trailers")


Body = FixedBody | ChunkedBody | UntilCloseBody


def chunk(piece: bytes) -> bytes:
    """One chunk on the wire. `piece` isn't empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"


def last_chunk(trailers: list[bytes]) -> bytes:
    """The end of a chunked body, with its trailer fields."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n" + b"\r\n".join(trailers) + b"\r\n\r\n"
