"""Bytes to request heads: a head has exactly one meaning, or it is refused.

The parser sees heads only. Bodies are read by `agent.wire.h1_body`, which knows exactly where they end: so pipelined
requests stay bytes until their turn, and nothing that follows a message is ever looked at early.

One pass in C proves that a head has no control characters and ends each line in CRLF; each field's name is proved a
token once and remembered. That is as strict as llhttp and costs half of it (docs/decisions/004); tests compare the two.
Refused besides: both framing headers, lengths that are repeated, listed or signed, any transfer coding but `chunked`
alone, `chunked` in HTTP/1.0, no Host or two, other versions, unregistered methods, more than one space in the request
line, folded lines, an Expect that isn't 100-continue.
"""

import re
from typing import NamedTuple

from agent.wire.errors import MalformedError
from agent.wire.field_block import EMPTY, FieldBlock, read_block
from agent.wire.fields import REQUEST_RULES, FieldRules, check_block
from agent.wire.head import RequestHead
from agent.wire.path import AmbiguousPathError, BadTargetError, is_clean, normalise, split_target

END = b"\r\n\r\n"
_MINOR = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_NEVER_FORWARDED = frozenset({b"CONNECT", b"TRACE"})
METHODS = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS QUERY ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK "
    b"MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE M-SEARCH NOTIFY ORDERPATCH PROPFIND PROPPATCH "
    b"PURGE REBIND REPORT SEARCH SUBSCRIBE UNBIND UNCHECKOUT UNLINK UNLOCK UNSUBSCRIBE UPDATE UPDATEREDIRECTREF "
    b"VERSION-CONTROL".split()
)
"""Those registered with IANA that may be forwarded, and three of long use (PURGE, SUBSCRIBE, NOTIFY)."""
_KNOWN_BLOCK_BYTES = 2048
_TARGET_BYTES = bytes(range(0x21, 0x7F)) + b"\t"
_bad_in_query = re.compile(rb"[\t#]").search
_BAD_START = re.compile(rb"[^A-Z]|[A-Z]{1,20}[^A-Z\- ]|[A-Z-]{21}")


class HeadLimits(NamedTuple):
    """What a peer may send before a head is refused."""

    bytes: int = 32768
    fields: int = 100


def early_refusal(data: bytes) -> str | None:
    """Say why an unfinished head can never become a good one, or None: so that no garbage waits for its time-out."""
    if _BAD_START.match(data):
        return "TLS on a plain port" if data[:1] == b"\x16" else "the request line doesn't begin with a method"
    if data.count(b"\n") != data.count(b"\r\n"):
        return "a line that ends in LF alone"
    return None


class RequestParser:
    """Parses one request head after another on one connection. Remembers the field block of the last one."""

    __slots__ = ("_block", "_limits", "_most_lines", "_rules", "_verbatim")

    def __init__(self, limits: HeadLimits, *, verbatim_paths: bool = False, rules: FieldRules = REQUEST_RULES) -> None:
        """`verbatim_paths`: leave the path as it came, for the outbound side where no rule is matched on it."""
        self._limits = limits
        self._rules = rules
        self._most_lines = limits.fields + 2
        self._verbatim = verbatim_paths
        self._block = EMPTY

    def parse(self, data: bytes) -> tuple[RequestHead, int] | None:
        """Read one head from the front of `data`: (head, its length), or None where it isn't complete yet.

        Raises MalformedError.
        """
        if data.endswith(END) and len(data) <= self._limits.bytes:
            eol = data.find(b"\r\n")
            known = self._block.bytes
            # That one ended where its head ended, so nothing follows here either.
            if len(known) == len(data) - eol and data.endswith(known):
                return self._head(data[:eol], None), len(data)
            lines = data.split(b"\r\n", self._most_lines)  # no more, or each of many pipelined heads would cost all
            if not lines[-1] and lines.index(b"") == len(lines) - 2:  # the one empty line is the last: nothing follows
                check_block(data, len(lines) - 1)
                parsed = self._head(lines[0], lines)
                self._block.bytes = data[eol:] if len(data) - eol <= _KNOWN_BLOCK_BYTES else b""
                return parsed, len(data)
        end = data.find(END)
        if end < 0 or end + 4 > self._limits.bytes:
            if len(data) > self._limits.bytes:
                raise MalformedError(f"a head of more than {self._limits.bytes} bytes", self._oversize(data))
            if (why := early_refusal(data)) is not None:
                raise MalformedError(why)
            return None
        head = data[: end + 4]
        lines = head.split(b"\r\n")
        check_block(head, len(lines) - 1)
        return self._head(lines[0], lines), end + 4

    def _oversize(self, data: bytes) -> str:
        return "head_too_large" if b"\r\n" in data[: self._limits.bytes] else "target_too_long"

    def _head(self, line: bytes, lines: list[bytes] | None) -> RequestHead:
        """The head of a request line and of the field lines after it, None where they are those of the head before."""
        head = RequestHead()
        try:
            head.method, target, version = line.split(b" ")
            head.minor = minor = _MINOR[version]
        except (ValueError, KeyError):
            raise MalformedError("the request line isn't `METHOD SP TARGET SP HTTP/1.1`") from None
        if head.method not in METHODS:
            raise _unknown_method(head.method)
        block = self._block
        if lines is not None or block.minor != minor or block.generation != self._rules.generation:
            known = b"" if lines is not None else block.bytes
            block = self._read(lines or known.split(b"\r\n"), minor)
            block.bytes = known
        head.target = target
        head.fields = block.fields
        head.lines = block.lines
        head.joined = block.joined
        head.host = block.host
        head.chunked = block.chunked
        head.content_length = block.content_length
        head.keep_alive = block.keep_alive
        head.expect_continue = block.expect_continue
        head.upgrade = block.upgrade
        head.identity = None
        head.request_extra = head.response_extra = b""
        head.shadow = ""
        path, _, query = target.partition(b"?")
        if not query and not self._verbatim and path and is_clean(path):  # most of them
            head.path, head.query = path, b""
        else:
            self._read_target(head, target)
        return head

    def _read(self, lines: list[bytes], minor: int) -> FieldBlock:
        """Read field lines; `lines` has one line before them and the two empty ones of the head's end after them."""
        count = len(lines) - 3
        if count > self._limits.fields:
            raise MalformedError(f"more than {self._limits.fields} header fields", "head_too_large")
        self._block = block = read_block(lines[1:-2], minor, self._rules)
        return block

    def _read_target(self, head: RequestHead, target: bytes) -> None:
        if target.translate(None, _TARGET_BYTES):
            raise MalformedError("the target holds control characters or bytes beyond ASCII", "bad_path")
        try:
            if target[:1] == b"/":
                path, _, head.query = target.partition(b"?")
                if head.query and _bad_in_query(head.query):
                    raise MalformedError("a fragment or a tab in the target", "bad_path")
            else:
                _, authority, path, head.query = split_target(target, head.method)
                if authority and authority.lower() != head.fields.get(b"host", b"").lower():
                    raise MalformedError("the target's authority differs from Host", "bad_host")
            if self._verbatim:
                head.path = _verbatim(path)
            else:
                head.path = path if is_clean(path) else normalise(path)
        except (AmbiguousPathError, BadTargetError) as error:
            raise MalformedError(str(error), "bad_path") from None


def _verbatim(path: bytes) -> bytes:
    if b"\t" in path:  # some servers end the target here (RFC 9112, section 3)
        raise MalformedError("a tab in the target", "bad_path")
    return path


def _unknown_method(method: bytes) -> MalformedError:
    if method in _NEVER_FORWARDED:
        return MalformedError(f"{method.decode()} is never forwarded", "method_not_supported")
    return MalformedError(f"{method[:20]!r} is no registered method")
