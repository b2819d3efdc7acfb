"""The one function that gives every path its one spelling, for matching and for forwarding alike.

`docs/reference/paths.md` lists the cases; it is made from `tests/unit/path_cases.py`, which the tests run.
"""

import re
from typing import Literal
from urllib.parse import quote

UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
"""RFC 3986, section 2.3: an escape of one of these means the character itself."""
_PCHAR = UNRESERVED + b"!$&'()*+,;=:@"

is_clean = re.compile(rb"(?:/[!$&-\-0-;=@-Z_a-z~][!$&-.0-;=@-Z_a-z~]*+)*+/?+").fullmatch
"""Only characters that stay as they are, no empty segment and none that begins with a dot."""
_REFUSED_RAW = re.compile(rb"[\x00-\x20\x7f-\xff\\#?]")
_ESCAPE = re.compile(rb"%(?:([0-9A-Fa-f]{2})|(.{0,2}))", re.DOTALL)
_NO_PCHAR = re.compile(rb"[^%s/%%]" % re.escape(_PCHAR))
_OVERLONG = re.compile(rb"%(?:C[01]%[89AB]|E0%[89]|F0%8)")
"""UTF-8 that spends more bytes than the character needs (RFC 3629, section 3): how dots and slashes are hidden."""
_DOT_PARAMETER = re.compile(rb"/\.{1,2}(?:;|%3B)")
_FOLDED = re.compile(rb"%(2[1467-9ABC]|3[AD]|40)")
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~!$&'()*+,;=%-]{1,255})(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"(https?)://([^/?#]*)([^?#]*)(?:\?(.*))?", re.IGNORECASE | re.DOTALL)
_REFUSED_QUERY = re.compile(rb"[\x00-\x20\x7f#]")

Form = Literal["origin", "absolute", "authority", "asterisk"]


class AmbiguousPathError(ValueError):
    """The path can be read in two ways; the message is a sentence for whoever sent it."""


class BadTargetError(ValueError):
    """The request target has none of the four forms of RFC 9112, section 3.2."""


def _escape(match: "re.Match[bytes]") -> bytes:
    digits = match[1]
    if digits is None:
        raise AmbiguousPathError(f"The escape {_show(match[0])} is malformed: two hexadecimal digits must follow %.")
    code = int(digits, 16)
    if code in UNRESERVED:
        return b"%c" % code
    if code < 0x20 or code == 0x7F:
        raise AmbiguousPathError(f"The path contains the encoded control character {_show(match[0])}.")
    if code in b"/\\":
        raise AmbiguousPathError(f"The path contains an encoded slash or backslash ({_show(match[0])}).")
    return b"%" + digits.upper()


def _encode(match: "re.Match[bytes]") -> bytes:
    return b"%%%02X" % match[0][0]


def _show(raw: bytes) -> str:
    return repr(raw.decode("latin-1"))


def _show_authority(raw: bytes) -> str:
    """Without user information and query: this ends up in the log."""
    return _show(raw.partition(b"?")[0].rpartition(b"@")[2][:80])


def _without_dots(path: bytes) -> bytes:
    """Resolve dot segments (RFC 3986, section 5.2.4) and collapse empty ones."""
    out: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments[1:]:
        if segment == b"..":
            if not out:
                raise AmbiguousPathError("The path climbs above the root with '..'.")
            if out[-1][:1] in {b"", b";"}:
                # "/a//../b" is "/a/b" for RFC 3986, but "/b" for those who collapse slashes first
                raise AmbiguousPathError("The path has '..' after an empty segment, which servers resolve differently.")
            out.pop()
        elif segment != b".":
            out.append(segment)
    kept = [segment for segment in out if segment]
    if not kept:
        return b"/"
    trailing = segments[-1] in {b"", b".", b".."}
    return b"/" + b"/".join(kept) + (b"/" if trailing else b"")


def normalise(raw: bytes) -> bytes:
    """Give `raw` (a path without its query) its one spelling; ``*`` stays as it is.

    Idempotent. Returns `raw` itself where nothing is to be done. Raises AmbiguousPathError for whatever two servers
    could read differently.
    """
    # nearly every path ends here, after 0.25 µs; `translate` or four `in` tests would cost more
    if (raw and is_clean(raw)) or raw == b"*":
        return raw
    if raw[:1] != b"/":
        raise AmbiguousPathError("The path doesn't start with a slash.")
    if found := _REFUSED_RAW.search(raw):
        raise AmbiguousPathError(f"The path contains {_show(found[0])}, which may only stand there percent-encoded.")
    path = _ESCAPE.sub(_escape, raw) if b"%" in raw else raw
    path = _NO_PCHAR.sub(_encode, path)
    if _OVERLONG.search(path):
        raise AmbiguousPathError("The path contains an overlong UTF-8 sequence.")
    if _DOT_PARAMETER.search(path):
        raise AmbiguousPathError("The path has a ';' parameter in a dot segment, which servers resolve differently.")
    if b"/." in path or b"//" in path:
        path = _without_dots(path)
    return path


def fold(path: bytes) -> bytes:
    """Decode the escapes of ``! $ & ' ( ) * + , = : @``: applications decode them, and no server gives them a meaning.

    For comparing only: without it, ``/a%3Ab`` would slip past a rule for ``/a:b``. `path` is normal.
    """
    return _FOLDED.sub(lambda match: bytes((int(match[1], 16),)), path) if b"%" in path else path


def normal_path(text: str) -> bytes:
    """Turn a path of the configuration into its normal form; what isn't ASCII is percent-encoded as UTF-8.

    Raises ValueError with the right spelling where the text isn't normal.
    """
    raw = "".join(char if char.isascii() else quote(char) for char in text).encode()
    try:
        normal = normalise(raw)
    except AmbiguousPathError as error:
        raise ValueError(f"{text!r} can never match: {error}") from None
    if normal != raw:
        raise ValueError(f"{text!r} can never match, since paths are normalised first: write {normal.decode()!r}")
    return normal


def split_authority(authority: bytes) -> tuple[bytes, int]:
    """Split ``host[:port]`` into the lower-case host (a final dot removed, brackets kept) and the port, -1 if none.

    Raises BadTargetError where it is malformed or carries user information (RFC 9110, section 4.2.4).
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise BadTargetError(f"{_show_authority(authority)} is no host with an optional port.")
    host, port = match[1].lower(), match[2]
    number = int(port) if port else -1
    if number > 65535:
        raise BadTargetError(f"{_show_authority(authority)} has a port above 65535.")
    if host[-1:] == b"." and len(host) > 1:
        host = host[:-1]
    return host, number


def split_target(target: bytes, method: bytes = b"") -> tuple[Form, bytes, bytes, bytes]:
    """Split a request target into its form, authority, path (not yet normalised) and query (RFC 9112, section 3.2).

    The authority is ``b""`` in origin and asterisk form, the path ``b""`` in authority form. Only CONNECT may use the
    authority form, and nothing else. An absolute form without a path has ``b"/"``, for OPTIONS ``b"*"``
    (section 3.2.4). Raises BadTargetError for what has no form, AmbiguousPathError for a fragment.
    """
    if target[:1] == b"/" and method != b"CONNECT":
        path, _, query = target.partition(b"?")
        if query and _REFUSED_QUERY.search(query):
            raise AmbiguousPathError("The query contains a fragment, a space or a control character.")
        return "origin", b"", path, query
    if method == b"CONNECT":
        if split_authority(target)[1] < 0:
            raise BadTargetError("CONNECT needs a target of the form host:port.")
        return "authority", target, b"", b""
    if target == b"*":
        if method not in {b"", b"OPTIONS"}:
            raise BadTargetError("Only OPTIONS may have the target '*'.")
        return "asterisk", b"", b"*", b""
    return _split_absolute(target, method)


def _split_absolute(target: bytes, method: bytes) -> tuple[Form, bytes, bytes, bytes]:
    if b"#" in target:
        raise AmbiguousPathError("The target contains a fragment ('#'), which is never sent.")
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        if not method and _AUTHORITY.fullmatch(target) and b":" in target:
            return "authority", target, b"", b""
        raise BadTargetError(f"{_show_authority(target)} is neither a path nor an http or https URL.")
    authority, path, query = match[2], match[3], match[4]
    split_authority(authority)
    if query and _REFUSED_QUERY.search(query):
        raise AmbiguousPathError("The query contains a space or a control character.")
    if not path:
        path = b"*" if method == b"OPTIONS" and query is None else b"/"
    return "absolute", authority, path, query or b""
