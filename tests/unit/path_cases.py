"""What becomes of each kind of path: run by the tests, and the source of docs/reference/paths.md.

`python -m tests.unit.path_cases > docs/reference/paths.md` writes the page.
"""

from typing import NamedTuple


class Case(NamedTuple):
    """One kind of path. `normal` is None where it is refused."""

    kind: str
    raw: bytes
    normal: bytes | None


CASES: tuple[Case, ...] = (
    Case("clean", b"/", b"/"),
    Case("clean", b"/orders/17", b"/orders/17"),
    Case("clean, trailing slash kept", b"/orders/", b"/orders/"),
    Case("clean, case kept", b"/Orders/AbC", b"/Orders/AbC"),
    Case("sub-delimiters, colon and at sign kept", b"/a:b@c!$&'()*+,=", b"/a:b@c!$&'()*+,="),
    Case("server-wide OPTIONS", b"*", b"*"),
    Case("name that begins with dots", b"/.well-known/x", b"/.well-known/x"),
    Case("name that begins with dots", b"/...", b"/..."),
    Case("name that begins with dots", b"/..a/.b", b"/..a/.b"),
    Case("dot segment", b"/a/./b", b"/a/b"),
    Case("dot segment", b"/a/b/.", b"/a/b/"),
    Case("dot segment", b"/a/../b", b"/b"),
    Case("dot segment", b"/a/b/..", b"/a/"),
    Case("dot segment", b"/a/..", b"/"),
    Case("dot segment, encoded", b"/a/%2e%2E/b", b"/b"),
    Case("dot segment, half encoded", b"/a/.%2e/b", b"/b"),
    Case("dot segment, encoded", b"/a/%2E/b", b"/a/b"),
    Case("climbs above the root", b"/..", None),
    Case("climbs above the root", b"/a/../../b", None),
    Case("climbs above the root, encoded", b"/%2e%2e/etc/passwd", None),
    Case("empty segments are collapsed", b"//a", b"/a"),
    Case("empty segments are collapsed", b"/a//b///c", b"/a/b/c"),
    Case("empty segments are collapsed", b"/a//", b"/a/"),
    Case("empty segments are collapsed", b"//", b"/"),
    Case("dot segment after an empty one", b"/a//../b", None),
    Case("dot segment after a parameter without a name", b"/a/;x/../b", None),
    Case("encoded slash", b"/a%2fb", None),
    Case("encoded slash", b"/a%2Fb", None),
    Case("encoded slash with dots", b"/a/..%2fb", None),
    Case("encoded backslash", b"/a%5cb", None),
    Case("encoded backslash", b"/a%5Cb", None),
    Case("backslash", b"/a\\..\\b", None),
    Case("NUL", b"/a\x00b", None),
    Case("encoded NUL", b"/a%00", None),
    Case("encoded control character", b"/a%0d%0ab", None),
    Case("encoded control character", b"/a%1F", None),
    Case("encoded control character", b"/a%7f", None),
    Case("control character", b"/a\x7fb", None),
    Case("malformed escape", b"/a%", None),
    Case("malformed escape", b"/a%2", None),
    Case("malformed escape", b"/a%zz", None),
    Case("malformed escape", b"/a%u002f", None),
    Case("malformed escape", b"/a%%32%65", None),
    Case("parameter in a dot segment", b"/a/..;/b", None),
    Case("parameter in a dot segment", b"/a/..;x=1/b", None),
    Case("parameter in a dot segment", b"/a/.;/b", None),
    Case("parameter in a dot segment, encoded", b"/a/%2e%2e;/b", None),
    Case("parameter in a dot segment, encoded", b"/a/..%3b/b", None),
    Case("parameter elsewhere is kept", b"/a;v=1/b", b"/a;v=1/b"),
    Case("parameter elsewhere is kept", b"/a%3bv", b"/a%3Bv"),
    Case("space", b"/a b", None),
    Case("raw byte above 0x7e", b"/caf\xc3\xa9", None),
    Case("fragment", b"/a#b", None),
    Case("query mark inside a path", b"/a?b", None),
    Case("no leading slash", b"a/b", None),
    Case("empty", b"", None),
    Case("escape of an unreserved character is decoded", b"/%61%5A%30%2d%5f%7e", b"/aZ0-_~"),
    Case("other escapes keep, in upper case", b"/a%20b%c3%a9", b"/a%20b%C3%A9"),
    Case("other escapes keep, in upper case", b"/a%3ab%40", b"/a%3Ab%40"),
    Case("characters that RFC 3986 doesn't allow are encoded", b'/a"<>[]^`{|}', b"/a%22%3C%3E%5B%5D%5E%60%7B%7C%7D"),
    Case("double encoding is data", b"/a/%252e%252e/b", b"/a/%252e%252e/b"),
    Case("double encoding is data", b"/a%252fb", b"/a%252fb"),
    Case("overlong UTF-8", b"/a/%c0%ae%c0%ae/b", None),
    Case("overlong UTF-8", b"/a%c0%afb", None),
    Case("overlong UTF-8", b"/a%e0%80%afb", None),
    Case("overlong UTF-8", b"/a%f0%80%80%afb", None),
)

INTRODUCTION = """\
# Paths

One function, `agent.wire.path.normalise`, gives every path its one spelling before any rule sees it. What rules match
is exactly what is forwarded. A path that two servers could read differently is refused: 400, code `bad_path`.
The query is never changed. Raw bytes are shown as `\\xNN`.

Routes compare the normalised path, and in addition:

- Matching is case-sensitive, and `/orders` isn't `/orders/`. An application that ignores either needs routes that
  cover both: `/admin/**` covers `/admin`, `/admin/` and everything below; case-insensitive applications need lower-case
  rewriting of their own.
- An escape of `! $ & ' ( ) * + , = : @` matches like the character itself (`/a%3Ab` matches the route `/a:b`), and is
  forwarded as it was sent.
- Where leaving out `;` parameters would lead to another route (`/admin;x` beside a route `/admin`), the request is
  refused: some servers ignore the parameter, others don't.

| kind | sent | becomes |
|---|---|---|
"""


def cell(raw: bytes) -> str:
    """One value as a table cell: code, with the characters escaped that a table or a reader couldn't take."""
    shown = "".join(chr(b) if 0x20 <= b < 0x7F else f"\\x{b:02x}" for b in raw).replace("|", "\\|")
    fence = "``" if "`" in shown else "`"
    return f"{fence}{shown}{fence}" if shown else "(nothing)"


def page() -> str:
    """The whole of docs/reference/paths.md."""
    rows = [f"| {c.kind} | {cell(c.raw)} | {'refused' if c.normal is None else cell(c.normal)} |" for c in CASES]
    return INTRODUCTION + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(page(), end="")
