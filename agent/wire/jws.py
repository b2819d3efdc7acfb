"""Compact JWS (RFC 7515) and its JSON (RFC 7519) read strictly: what two parsers could read differently is refused.

Nothing here trusts or verifies anything. All functions raise `JwsError`, whose text is for the operator's log.
"""

import json
import math
import re
from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64
from typing import Any, NamedTuple

from agent.core.errors import OutriggerError

MAX_DEPTH = 16
"""Levels of arrays and objects. Claims of real providers nest up to five."""

MAX_NAME_CHARS = 256
"""Bound of `kid` and `alg`: they become keys of our tables."""

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")
# An unterminated string runs to the end, so that the scan stays linear whatever a peer sends.
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)

_POINTERS = ("jwk", "jku", "x5u")
"""Header parameters by which a token brings or names its own key (RFC 8725, section 3.10)."""


class JwsError(OutriggerError):
    """The token or document is malformed, ambiguous, or uses what is never accepted."""

    status = 401
    code = "token_invalid"


class Jws(NamedTuple):
    """The three parts of a compact JWS, still encoded, and what the signature covers."""

    header: bytes
    payload: bytes
    signature: bytes
    signed: bytes


class JwsHeader(NamedTuple):
    """The parameters of a JOSE header that anything is decided by."""

    alg: str
    kid: str | None
    typ: str | None


def split_token(token: bytes) -> Jws:
    """Cut `header.payload.signature` apart (RFC 7515, section 7.1). All three must be there and not be empty."""
    if token.count(b".") != 2:
        raise JwsError(f"{token.count(b'.') + 1} parts instead of three: no compact JWS")
    signed, _, signature = token.rpartition(b".")
    header, _, payload = signed.partition(b".")
    if not header or not payload or not signature:
        raise JwsError("a part of the token is empty; unsigned tokens are never accepted")
    return Jws(header, payload, signature, signed)


def decode_segment(segment: bytes, what: str) -> bytes:
    """Base64url without padding (RFC 7515, section 2), canonical only: encoding it again gives the same bytes."""
    remainder = len(segment) % 4
    if remainder != 1:
        try:
            raw = a2b_base64(segment.translate(_TO_STANDARD) + b"=="[: -remainder % 4])
        except BinasciiError:
            raw = b""
        # The comparison refuses foreign characters, padding and stray bits, which the decoder skips silently.
        if b2a_base64(raw, newline=False).translate(_TO_URLSAFE).rstrip(b"=") == segment:
            return raw
    raise JwsError(f"the {what} is no canonical base64url without padding")


def read_header(segment: bytes) -> JwsHeader:
    """Read a JOSE header and refuse every parameter that would change how the token is to be judged."""
    header = read_object(decode_segment(segment, "header"), "header")
    for name in _POINTERS:
        if name in header:
            raise JwsError(f"the header carries {name!r}: keys come from the configured issuer, never from the token")
    if "crit" in header:
        raise JwsError("the header has 'crit': no extension is supported (RFC 7515, section 4.1.11)")
    if header.get("b64", True) is not True or "enc" in header or "zip" in header:
        raise JwsError("unencoded, encrypted or compressed payloads are not supported ('b64', 'enc', 'zip')")
    alg = _name(header, "alg")
    if alg is None:
        raise JwsError("the header has no 'alg'")
    return JwsHeader(alg, _name(header, "kid"), _name(header, "typ"))


def read_payload(segment: bytes) -> dict[str, Any]:
    """Read the claims set."""
    return read_object(decode_segment(segment, "payload"), "payload")


def read_object(raw: bytes, what: str) -> dict[str, Any]:
    """Strict JSON: UTF-8, an object, every name once (RFC 8725, section 2.4), finite numbers, bounded depth."""
    _check_depth(raw, what)
    try:
        value = _DECODER.decode(raw.decode())
        if b"\\u" in raw:
            # A lone surrogate has no UTF-8 form: it would fail wherever the value is used later.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise JwsError(f"the {what} is no strict JSON: {_reason(error)}") from None
    if not isinstance(value, dict):
        raise JwsError(f"the {what} is no JSON object")
    return value


def _name(header: dict[str, Any], name: str) -> str | None:
    value = header.get(name)
    if name in header and not (isinstance(value, str) and len(value) <= MAX_NAME_CHARS):
        raise JwsError(f"the header's {name!r} is no string of at most {MAX_NAME_CHARS} characters")
    return value


def _check_depth(raw: bytes, what: str) -> None:
    """Before the parser recurses. The exact count is only made where there are enough brackets to matter."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _STRUCTURE.finditer(raw):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise JwsError(f"the {what} is nested deeper than {MAX_DEPTH} levels")
        elif token in (b"]", b"}"):
            depth -= 1


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at {error.pos}"
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    return str(error)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name is there twice")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_constant)
