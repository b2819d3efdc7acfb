"""Bytes to request heads: a head has exactly one meaning, or it is refused.

The parser sees heads only. Bodies are read by `agent.wire.h1_body`, which knows exactly where they end: so pipelined
requests stay bytes until their turn, and nothing that follows a message is ever looked at early.

One pass in C proves that a head has no control characters and ends each line in CRLF; each field's name is proved a
token once and remembered. That is as strict as llhttp and costs half of it (docs/decisions/005); tests compare the two.
Refused besides: both framing headers, lengths that are repeated, listed or signed, any transfer coding but `chunked`
alone, `chunked` in HTTP/1.0, no Host or two, other versions, unregistered methods, more than one space in the request
line, folded lines, an Expect that isn't 100-continue.
"""

import re
from typing import NamedTuple

from agent.wire.errors import MalformedError
from agent.wire.fields import (
    OURS,
    REQUEST_RULES,
    UNNAMEABLE,
    FieldRules,
    check_block,
    connection_options,
    join_repeated,
    without,
)
from agent.wire.head import RequestHead
from agent.wire.path import AmbiguousPathError, BadTargetError, is_clean, normalise, split_authority, split_target

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
_KNOWN_HOSTS = 16  # a client's connection has one or two; more are a proxy's or a flood
_HTTP = (b"h2", b"http")  # a tunnel in which requests would pass unjudged
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
    """Parses one request head after another on one connection. Keeps no bytes: only what hosts it has seen."""

    __slots__ = ("_hosts", "_limits", "_most_lines", "_rules", "_verbatim")

    def __init__(self, limits: HeadLimits, *, verbatim_paths: bool = False, rules: FieldRules = REQUEST_RULES) -> None:
        """`verbatim_paths`: leave the path as it came, for the outbound side where no rule is matched on it."""
        self._limits = limits
        self._rules = rules
        self._most_lines = limits.fields + 2
        self._verbatim = verbatim_paths
        self._hosts: dict[bytes, bytes] = {b"": b""}

    def parse(self, data: bytes) -> tuple[RequestHead, int] | None:
        """Read one head from the front of `data`: (head, its length), or None where it isn't complete yet.

        Raises MalformedError.
        """
        if data.endswith(END) and len(data) <= self._limits.bytes:
            lines = data.split(b"\r\n", self._most_lines)  # no more, or each of many pipelined heads would cost all
            if not lines[-1] and lines.index(b"") == len(lines) - 2:  # the one empty line is the last: nothing follows
                check_block(data, len(lines) - 1)
                return self._head(lines), len(data)
        end = data.find(END)
        if end < 0 or end + 4 > self._limits.bytes:
            if len(data) > self._limits.bytes:
                raise MalformedError(f"a head of more than {self._limits.bytes} bytes", self._oversize(data))
            if (why := early_refusal(data)) is not None:
                raise MalformedError(why)
            return None
        block = data[: end + 4]
        lines = block.split(b"\r\n")
        check_block(block, len(lines) - 1)
        return self._head(lines), end + 4

    def _oversize(self, data: bytes) -> str:
        return "head_too_large" if b"\r\n" in data[: self._limits.bytes] else "target_too_long"

    def _head(self, lines: list[bytes]) -> RequestHead:
        """The head of these lines, of which the last two are the empty ones of its end."""
        head = RequestHead()
        try:
            head.method, target, version = lines[0].split(b" ")
            head.minor = _MINOR[version]
        except (ValueError, KeyError):
            raise MalformedError("the request line isn't `METHOD SP TARGET SP HTTP/1.1`") from None
        if head.method not in METHODS:
            raise _unknown_method(head.method)
        count = len(lines) - 3
        if count > self._limits.fields:
            raise MalformedError(f"more than {self._limits.fields} header fields", "head_too_large")
        fields: dict[bytes, bytes] = {}
        kept: list[bytes] = []
        known = self._rules.lines
        for line in lines[1:-2]:
            lower, value, forwarded = known.get(line) or self._rules.line(line)
            fields[lower] = value
            if forwarded:
                kept.append(forwarded)
        if len(fields) != count:
            fields = _joined(lines[1:-2])
        head.target = target
        head.fields = fields
        head.lines = kept
        head.identity = head.trace = None
        head.request_extra = head.response_extra = head.upgrade = b""
        head.shadow = head.route = ""
        head.chunked = head.expect_continue = False
        head.content_length = 0
        head.keep_alive = head.minor == 1
        self._read_target(head, target)
        if b"content-length" in fields or b"transfer-encoding" in fields:
            _read_framing(head)
        if b"connection" in fields:
            _read_connection(head)
        if b"expect" in fields:
            _read_expect(head)
        return head

    def _read_target(self, head: RequestHead, target: bytes) -> None:
        host = head.fields.get(b"host")
        if host is None:
            if head.minor == 1:
                raise MalformedError("no Host", "bad_host")
            host = b""
        name = self._hosts.get(host)
        head.host = self._learn_host(host) if name is None else name
        if not target.isascii():
            raise MalformedError("the target holds bytes beyond ASCII", "bad_path")
        try:
            if target[:1] == b"/":
                path, _, head.query = target.partition(b"?")
                if head.query and _bad_in_query(head.query):
                    raise MalformedError("a fragment or a tab in the target", "bad_path")
            else:
                _, authority, path, head.query = split_target(target, head.method)
                if authority and authority.lower() != host.lower():
                    raise MalformedError("the target's authority differs from Host", "bad_host")
            if self._verbatim:
                head.path = _verbatim(path)
            else:
                head.path = path if is_clean(path) else normalise(path)
        except (AmbiguousPathError, BadTargetError) as error:
            raise MalformedError(str(error), "bad_path") from None

    def _learn_host(self, host: bytes) -> bytes:
        try:
            name = split_authority(host)[0]
        except BadTargetError as error:
            raise MalformedError(f"Host: {error}", "bad_host") from None
        if len(self._hosts) < _KNOWN_HOSTS:
            self._hosts[host] = name
        return name


def _verbatim(path: bytes) -> bytes:
    if b"\t" in path:  # some servers end the target here (RFC 9112, section 3)
        raise MalformedError("a tab in the target", "bad_path")
    return path


def _unknown_method(method: bytes) -> MalformedError:
    if method in _NEVER_FORWARDED:
        return MalformedError(f"{method.decode()} is never forwarded", "method_not_supported")
    return MalformedError(f"{method[:20]!r} is no registered method")


def _joined(lines: list[bytes]) -> dict[bytes, bytes]:
    """The fields of lines of which some have the same name."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        _, value, (lower, _) = REQUEST_RULES.read(line)
        value = value.strip()
        fields[lower] = join_repeated(lower, fields[lower], value) if lower in fields else value
    return fields


def _read_expect(head: RequestHead) -> None:
    if head.fields[b"expect"].lower() != b"100-continue":
        raise MalformedError("Expect asks for something other than 100-continue")
    head.expect_continue = head.minor == 1


def _read_framing(head: RequestHead) -> None:
    fields = head.fields
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise MalformedError("both Content-Length and Transfer-Encoding")
        if coding.lower() != b"chunked" or head.minor == 0:
            raise MalformedError("a transfer coding other than chunked alone, or one in HTTP/1.0")
        head.chunked, head.content_length = True, -1
    elif length is not None:
        if not length.isdigit() or len(length) > 18:
            raise MalformedError("Content-Length is no decimal number")
        head.content_length = int(length)


def _read_connection(head: RequestHead) -> None:
    fields = head.fields
    options = connection_options(fields[b"connection"])
    if b"close" in options:
        head.keep_alive = False
    elif b"keep-alive" in options:
        head.keep_alive = True
    if b"upgrade" in options:
        _read_upgrade(head)
    for option in options:
        if option in UNNAMEABLE or option.startswith(OURS):
            raise MalformedError(f"Connection names {option.decode('latin-1')}, which is not hop-by-hop")
    head.lines = without(head.lines, fields, options - {b"upgrade"})


def _read_upgrade(head: RequestHead) -> None:
    """Honour an upgrade only where it has one meaning: HTTP/1.1, no body, one protocol, and never h2c."""
    protocol = head.fields.get(b"upgrade", b"").lower()
    if head.minor == 1 and not head.content_length and b"," not in protocol and not protocol.startswith(_HTTP):
        head.upgrade = protocol
