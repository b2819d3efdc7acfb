"""The open-loop client's pieces that need no load: where an answer ends, and its timer."""

import os
import select
import sys

import pytest

from bench.latency import answer_length, metronome
from bench.wrk import LoadError

HEAD = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-LENGTH: 5\r\nX-Content-Length: 9\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (HEAD[:-1], 0),
        (HEAD, len(HEAD) + 5),
        (HEAD + b"hello", len(HEAD) + 5),
        (HEAD + b"helloHTTP/1.1", len(HEAD) + 5),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 46),
        (b"HTTP/1.1 200 OK\r\nContent-Length:12\r\n\r\n", 38 + 12),
    ],
)
def test_answer_length(data: bytes, expected: int) -> None:
    assert answer_length(data) == expected


def test_an_answer_without_a_length_is_refused() -> None:
    with pytest.raises(LoadError, match="without Content-Length"):
        answer_length(b"HTTP/1.1 200 OK\r\nX-Content-Length: 5\r\n\r\n")


def test_metronome_counts_what_was_missed() -> None:
    timer = metronome(0.001)
    try:
        assert select.select([timer], [], [], 5)[0]
        assert int.from_bytes(os.read(timer, 8), sys.byteorder) >= 1
    finally:
        os.close(timer)
