"""What becomes of bytes that two servers could read differently: run by the tests, the source of a reference page.

`python -m tests.integration.framing_cases > docs/reference/framing.md` writes the page.
"""

from typing import NamedTuple

from tests.unit.path_cases import cell


class Case(NamedTuple):
    """One row."""

    kind: str
    sent: bytes
    """What the client sends. The test sends a plain request for `/end` after it, on the same connection."""
    code: str = ""
    """Of the refusal that ends the connection; ``""`` where it goes on and `/end` is served."""
    seen: tuple[bytes, ...] = ()
    """What the application gets of it: line, fields but those that every request gets, and body, one a line."""


def req(*lines: bytes, line: bytes = b"POST /a HTTP/1.1", body: bytes = b"", host: bytes = b"Host: a") -> bytes:
    return b"\r\n".join((line, *((host,) if host else ()), *lines, b"", body))


INNER = b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
CL, TE = b"Content-Length: ", b"Transfer-Encoding: "
CHUNKED = TE + b"chunked"
M, H, P = "malformed_request", "bad_host", "bad_path"
A = b"GET /a\nhost: a\n\n"


def chunks(body: bytes, kind: str, code: str = "", *seen: bytes) -> Case:
    return Case(kind, req(CHUNKED, body=body), code, seen)


def get(target: bytes, kind: str, code: str = "", *seen: bytes) -> Case:
    return Case(kind, req(line=b"GET " + target + b" HTTP/1.1"), code, seen)


def field(lines: bytes, kind: str, code: str = "", *seen: bytes) -> Case:
    return Case(kind, req(*lines.split(b"\n"), line=b"GET /a HTTP/1.1"), code, seen)


def length(value: bytes, kind: str, code: str = M, *seen: bytes) -> Case:
    return Case(kind, req(CL + value, body=b"hello"), code, seen)


def coding(value: bytes, kind: str, code: str = M, *seen: bytes) -> Case:
    return Case(kind, req(TE + value, body=b"0\r\n\r\n"), code, seen)


HELLO = b"POST /a\nhost: a\ncontent-length: 5\n\nhello"
EMPTY = b"POST /a\nhost: a\ntransfer-encoding: chunked\n\n"
CHUNKY = EMPTY + b"hello"

FRAMING = [
    Case("CL.TE", req(CL + b"%d" % (5 + len(INNER)), CHUNKED, body=b"0\r\n\r\n" + INNER), M),
    Case("TE.CL", req(CHUNKED, CL + b"4", body=b"20\r\n" + INNER + b"\r\n0\r\n\r\n"), M),
    Case("CL.TE, the length is 0", req(CL + b"0", CHUNKED, body=b"0\r\n\r\n"), M),
    Case("TE.TE: two fields", req(CHUNKED, TE + b"identity", body=b"0\r\n\r\n"), M),
    Case("TE.TE: twice chunked", req(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), M),
    Case("TE.TE: two spellings", req(CHUNKED, b"transfer-encoding: x", body=b"0\r\n\r\n"), M),
    coding(b"xchunked", "a coding that ends like chunked"),
    coding(b"chunked, identity", "chunked isn't last"),
    coding(b"identity, chunked", "another coding before chunked"),
    coding(b"gzip, chunked", "another coding before chunked"),
    coding(b"gzip", "another coding"),
    coding(b"identity", "another coding"),
    coding(b"chunked, chunked", "chunked twice in one field"),
    coding(b'"chunked"', "quoted"),
    coding(b"chunked;q=1", "with a parameter"),
    coding(b"chunked,", "with an empty member"),
    coding(b",chunked", "with an empty member"),
    coding(b"\x0bchunked", "vertical tab before it"),
    coding(b"chunked\x00", "NUL after it"),
    coding(b"chu\xffnked", "byte beyond ASCII in it"),
    coding(b"chunk", "no such coding"),
    coding(b"", "empty"),
    coding(b"Chunked", "case doesn't count", "", EMPTY),
    coding(b"\tchunked \t", "nor do blanks around it", "", EMPTY),
    Case("chunked in HTTP/1.0", req(CHUNKED, line=b"POST /a HTTP/1.0", body=b"0\r\n\r\n"), M),
    Case("blank before the colon", req(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), M),
    Case("tab before the colon", req(b"Content-Length\t: 5", body=b"hello"), M),
    Case("folded: the coding on the next line", req(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n"), M),
    Case("folded with a tab", req(b"X: a", b"\tContent-Length: 5", body=b"hello"), M),
    Case("hidden by a bare LF", req(b"X: a\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"), M),
    Case("hidden by a bare CR", req(b"X: a\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"), M),
    Case("first field begins with a blank", req(host=b" Host: a"), M),
    Case("name with an underscore is no framing", req(b"Transfer_Encoding: chunked"), "", (b"POST /a\nhost: a\n\n",)),
    Case("nor is it a length", req(b"Content_Length: 5"), "", (b"POST /a\nhost: a\n\n",)),
    Case("lengths that differ", req(CL + b"5", CL + b"6", body=b"hello!"), M),
    Case("lengths that agree", req(CL + b"5", b"content-length: 5", body=b"hello"), M),
    length(b"5, 5", "listed"),
    length(b"5 5", "two numbers"),
    length(b"+5", "signed"),
    length(b"-5", "negative"),
    length(b"0x5", "hexadecimal"),
    length(b"5.0", "fraction"),
    length(b"1_0", "underscore"),
    length(b"5\x00", "NUL"),
    length(b"\xd9\xa5", "digit of another script"),
    length(b"", "empty"),
    length(b"99999999999999999999", "more than 64 bits"),
    length(b"0000000000000000000005", "longer than any length"),
    length(b"005", "leading zeros are no octal number", "", HELLO),
    length(b" 5\t", "blanks around it", "", HELLO),
    Case("CL.0: a request in the body of a GET", req(CL + b"%d" % len(INNER), line=b"GET /a HTTP/1.1", body=INNER), "",
         (b"GET /a\nhost: a\ncontent-length: 32\n\n" + INNER,)),
    Case("CL.0: in the body of a POST", req(CL + b"%d" % len(INNER), body=INNER), "",
         (b"POST /a\nhost: a\ncontent-length: 32\n\n" + INNER,)),
    Case("0.CL: Expect with a body", req(b"Expect: 100-continue", CL + b"%d" % len(INNER), body=INNER), "",
         (b"POST /a\nhost: a\nexpect: 100-continue\ncontent-length: 32\n\n" + INNER,)),
    field(b"Expect: y 100-continue", "0.CL: an obfuscated Expect", M),
    field(b"Expect: 100-continue\nExpect: 100-continue", "0.CL: twice", M),
]  # fmt: skip

CHUNKS = [
    chunks(b"5\r\nhello\r\n0\r\n\r\n", "plain", "", CHUNKY),
    chunks(b"005\r\nhello\r\n00\r\n\r\n", "leading zeros", "", CHUNKY),
    chunks(b'5;a="b;c"\r\nhello\r\n0;z\r\n\r\n', "extensions are dropped", "", CHUNKY),
    chunks(b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", "trailers are dropped", "", CHUNKY),
    chunks(b"20\r\n" + INNER + b"\r\n0\r\n\r\n", "a request as data", "", EMPTY + INNER),
    chunks(b"5;a\nhello\r\n0\r\n\r\n", "TERM.EXT: bare LF in an extension", M),
    chunks(b"5;\n\r\nhello\r\n0\r\n\r\n", "EXT.TERM: LF before the CRLF", M),
    chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n", "bare CR in an extension", M),
    chunks(b"5;\x00\r\nhello\r\n0\r\n\r\n", "NUL in an extension", M),
    chunks(b"5\nhello\n0\n\n", "bare LF everywhere", M),
    chunks(b"5\r\nhello\n0\r\n\r\n", "TERM.SPILL: bare LF after the data", M),
    chunks(b"5\r\nhelloXX0\r\n\r\n", "SPILL.TERM: two other bytes after the data", M),
    chunks(b"5\r\nhello0\r\n\r\n", "no line end after the data", M),
    chunks(b"6\r\nhello\r\n0\r\n\r\n", "one byte too few", M),
    chunks(b"4\r\nhello\r\n0\r\n\r\n", "one byte too many", M),
    chunks(b"0x5\r\nhello\r\n0\r\n\r\n", "prefix 0x", M),
    chunks(b"+5\r\nhello\r\n0\r\n\r\n", "signed", M),
    chunks(b"-1\r\nhello\r\n0\r\n\r\n", "negative", M),
    chunks(b" 5\r\nhello\r\n0\r\n\r\n", "blank before the size", M),
    chunks(b"5 \r\nhello\r\n0\r\n\r\n", "blank after the size", M),
    chunks(b"5_0\r\nhello\r\n0\r\n\r\n", "underscore", M),
    chunks(b"5,\r\nhello\r\n0\r\n\r\n", "comma", M),
    chunks(b"ffffffffffffffff1\r\nhello", "more than 64 bits", M),
    chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n", "cut to 64 bits it would be 5", M),
    chunks(b"\r\n5\r\nhello\r\n0\r\n\r\n", "empty line before the size", M),
    chunks(b"5;" + b"e" * 2000 + b"\r\nhello\r\n0\r\n\r\n", "an extension of 2,000 bytes", M),
    chunks((b"1;" + b"e" * 900 + b"\r\na\r\n") * 30 + b"0\r\n\r\n", "30 bytes in 27,000 of extensions", M),
    chunks(b"0\r\nContent-Length: 5\r\n\r\n", "a length as trailer", M),
    chunks(b"0\r\nTransfer-Encoding: chunked\r\n\r\n", "a coding as trailer", M),
    chunks(b"0\r\nHost: b\r\n\r\n", "Host as trailer", M),
    chunks(b"0\r\nAuthorization: Bearer a\r\n\r\n", "Authorization as trailer", M),
    chunks(b"0\r\nX: y\n\r\n", "bare LF ends a trailer", M),
    chunks(b"0\r\nX: y\r\n z\r\n\r\n", "folded trailer", M),
    chunks(b"0\r\n" + INNER, "TRAIL: a request line as trailer", M),
]

LINES = [
    Case("bare LF ends every line", b"GET /a HTTP/1.1\nHost: a\n\n", M),
    Case("bare LF after the request line", b"GET /a HTTP/1.1\nHost: a\r\n\r\n", M),
    Case("CR CR LF", b"GET /a HTTP/1.1\r\r\nHost: a\r\n\r\n", M),
    Case("empty lines before a request", b"\r\n\r\n" + req(line=b"GET /a HTTP/1.1"), "", (A,)),
    Case("bare LF before a request", b"\n" + req(line=b"GET /a HTTP/1.1"), M),
    Case("bare CR before a request", b"\r" + req(line=b"GET /a HTTP/1.1"), M),
    Case("a blank before a request", b" " + req(line=b"GET /a HTTP/1.1"), M),
    Case("two requests at once", req(line=b"GET /a HTTP/1.1") * 2, "", (A, A)),
    Case("a body of 5 bytes, 7 sent", req(CL + b"5", body=b"helloXY"), M, (HELLO,)),
    Case("two blanks after the method", req(line=b"GET  /a HTTP/1.1"), M),
    Case("two blanks before the version", req(line=b"GET /a  HTTP/1.1"), M),
    Case("a blank after the version", req(line=b"GET /a HTTP/1.1 "), M),
    Case("tabs in place of blanks", req(line=b"GET\t/a\tHTTP/1.1"), M),
    Case("a blank in the target", req(line=b"GET /a b HTTP/1.1"), M),
    Case("a second version", req(line=b"GET /a HTTP/1.1 HTTP/1.1"), M),
    Case("no version: HTTP/0.9", b"GET /a\r\n\r\n", M),
    Case("HTTP/0.9 by name", req(line=b"GET /a HTTP/0.9"), M),
    Case("HTTP/2.0", req(line=b"GET /a HTTP/2.0"), M),
    Case("HTTP/1.2", req(line=b"GET /a HTTP/1.2"), M),
    Case("HTTP/1.10", req(line=b"GET /a HTTP/1.10"), M),
    Case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", M),
    Case("TLS on a plain port", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", M),
    Case("lower-case method", req(line=b"get /a HTTP/1.1"), M),
    Case("unknown method", req(line=b"FOO /a HTTP/1.1"), M),
    Case("a method with NUL", req(line=b"GE\x00T /a HTTP/1.1"), M),
    Case("CONNECT", req(line=b"CONNECT a:443 HTTP/1.1"), "method_not_supported"),
    Case("TRACE", req(line=b"TRACE /a HTTP/1.1"), "method_not_supported"),
]

TARGETS = [
    field(b"Host: b", "two Hosts", H),
    field(b"host: a", "two equal Hosts", H),
    Case("no Host", req(host=b""), H),
    Case("Host with a blank before the colon", req(host=b"Host : a"), M),
    Case("Host list", req(host=b"Host: a, b"), H),
    Case("Host with user information", req(host=b"Host: x@a"), H),
    Case("Host with a path", req(host=b"Host: a/admin"), H),
    Case("Host with a query", req(host=b"Host: a?x"), H),
    Case("Host with a bad port", req(host=b"Host: a:80x"), H),
    Case("Host with a port too large", req(host=b"Host: a:99999"), H),
    Case("folded Host", req(b" b", host=b"Host: a"), M),
    get(b"http://a/b?c", "absolute form", "", b"GET /b?c\nhost: a\n\n"),
    get(b"http://b/", "absolute form with another host", H),
    get(b"http://a:81/", "absolute form with another port", H),
    get(b"http://a@b/", "absolute form with user information", P),
    get(b"ftp://a/", "absolute form of another scheme", P),
    get(b"a:80", "authority form", P),
    get(b"*", "asterisk for a GET", P),
    get(b"/a#b", "fragment", P),
    get(b"/a?b#c", "fragment after a query", P),
    get(b"/a?b\tc", "tab in the query", P),
    get(b"/a\tb", "tab in the path", P),
    get(b"/a?\xff", "byte beyond ASCII in the query", P),
    get(b"/a?b\x00", "NUL in the query", M),
    get(b"/a?%0d%0aX:%20y", "an encoded line end stays encoded", "", b"GET /a?%0d%0aX:%20y\nhost: a\n\n"),
    get(b"/a%0d%0aX:%20y", "an encoded line end in the path", P),
    get(b"/b/../a", "dot segments are resolved", "", A),
    get(b"/b/%2e%2e/a", "encoded ones too", "", A),
    get(b"/../admin", "above the root", P),
    get(b"/a%2f..%2fadmin", "encoded slash", P),
    get(b"/a%5c..%5cadmin", "encoded backslash", P),
    get(b"/a\\admin", "backslash", P),
    get(b"/a/..;/admin", "parameter in a dot segment", P),
    get(b"//a", "empty segments are collapsed", "", A),
    get(b"/%61", "an escaped letter is that letter", "", A),
    get(b"/a%", "half an escape", P),
    get(b"/a%00", "encoded NUL", P),
]

FIELDS = [
    field(b"X\x00: a", "NUL in a name", M),
    field(b"X: a\x00b", "NUL in a value", M),
    field(b"X: a\x1bb", "control character in a value", M),
    field(b"X: a\x7fb", "DEL in a value", M),
    field(b"X", "no colon", M),
    field(b": a", "no name", M),
    field(b"X Y: a", "blank in a name", M),
    field(b"X\xe4: a", "byte beyond ASCII in a name", M),
    field(b"X:a", "no blank after the colon", "", b"GET /a\nhost: a\nx: a\n\n"),
    field(b"X: a\xe4\tb", "a value of other bytes", "", b"GET /a\nhost: a\nx: a\xe4\tb\n\n"),
    field(b"Authorization: Bearer a\nAuthorization: Bearer b", "two tokens", M),
    field(b"Content-Type: a/b\ncontent-type: c/d", "two content types", M),
    field(b"Content_Type: a/b", "an alias of a field that may come once", "", A),
    field(
        b"Cookie: a=1\nCookie: b=2", "cookies may come in pieces", "", b"GET /a\nhost: a\ncookie: a=1\ncookie: b=2\n\n"
    ),
    field(b"Connection: content-length", "Connection names the length", M),
    field(b"Connection: transfer-encoding", "Connection names the coding", M),
    field(b"Connection: host", "Connection names Host", M),
    field(b"Connection: Authorization", "Connection names the token", M),
    field(b"Connection: cookie", "Connection names cookies", M),
    field(b"Connection: X-Forwarded-For", "Connection names what we write", M),
    field(b"Connection: x-outrigger-subject", "Connection names who is calling", M),
    field(
        b"Connection: x-hop\nX-Hop: 1\nX: 2", "Connection names a hop-by-hop field", "", b"GET /a\nhost: a\nx: 2\n\n"
    ),
    field(b"Keep-Alive: 1\nProxy-Connection: close\nTE: trailers\nTrailer: X", "hop-by-hop fields", "", A),
    field(b"X-Outrigger-Subject: root\nx_outrigger_roles: admin\nX.Outrigger.Tenant: a", "who is calling", "", A),
    field(b"X-Forwarded-For: 6.6.6.6\nX_Forwarded_For: 6.6.6.6\nForwarded: for=6.6.6.6", "where from", "", A),
    field(b"X-Original-URL: /admin\nX-Rewrite-URL: /admin\nx_original_url: /admin", "another path", "", A),
    field(b"X-Real-IP: 6.6.6.6\nX_Real_IP: 6.6.6.6\nX-Forwarded-Host: b", "another address or host", "", A),
    field(b"Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk", "h2c upgrade", "", A),
    field(b"Connection: Upgrade\nUpgrade: H2C", "h2c in capitals", "", A),
    field(b"Connection: Upgrade\nUpgrade: websocket, h2c", "h2c behind another protocol", "", A),
    field(b"Connection: Upgrade\nUpgrade: HTTP/2.0", "HTTP in a tunnel", "", A),
    field(b"Connection: Upgrade\nUpgrade: websocket\nUpgrade: h2c", "two upgrades", M),
    field(b"Upgrade: websocket", "an upgrade that Connection doesn't name", "", A),
    field(b"X: " + b"a" * 33000, "a head of 33,000 bytes", "head_too_large"),
    field(b"\n".join(b"x-%d: a" % n for n in range(101)), "102 fields", "head_too_large"),
    get(b"/" + b"a" * 33000, "a target of 33,000 bytes", "target_too_long"),
]

SECTIONS = {
    "Where a body ends": FRAMING,
    "Chunks": CHUNKS,
    "Lines and methods": LINES,
    "Targets and Host": TARGETS,
    "Fields": FIELDS,
}
CASES = [case for cases in SECTIONS.values() for case in cases]

INTRODUCTION = """# Framing

What the inbound proxy makes of bytes that two servers could read differently. Either it refuses them, closes the
connection, and the application sees nothing of what follows; or it writes a request anew, with exactly one meaning.
Fields that every request gets (`x-forwarded-*`, `forwarded`, `traceparent`, `x-outrigger-deadline-ms`) aren't shown.
Raw bytes are shown as `\\xNN`; long rows are cut.

Left to you: methods in fields or forms (`X-HTTP-Method-Override`, `_method`) go on as they came. Where routes differ by
method, switch that off in the application or drop the field with `rewrite.remove_headers`.
"""


def short(raw: bytes) -> str:
    return cell(raw) if len(raw) <= 220 else cell(raw[:200]) + " …"


def outcome(case: Case) -> str:
    seen = "; then ".join(short(one) for one in case.seen)
    refused = f"refused: `{case.code}`" if case.code else ""
    return "; then ".join(part for part in (seen, refused) if part)


def page() -> str:
    """The whole of docs/reference/framing.md."""
    text = INTRODUCTION
    for title, cases in SECTIONS.items():
        rows = [f"| {case.kind} | {short(case.sent)} | {outcome(case)} |" for case in cases]
        text += f"\n## {title}\n\n| case | sent | the application gets |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    return text


if __name__ == "__main__":
    print(page(), end="")
