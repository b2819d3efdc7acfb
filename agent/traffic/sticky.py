"""Choices that stay: what a request is recognised by, and hashes that are the same in every process and run."""

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated

from pydantic import AfterValidator

from agent.wire.head import RequestHead
from agent.wire.request_key import check_part, key_of

_COOKIE = re.compile(r"cookie:([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_MASK = (1 << 64) - 1

StickyKey = Callable[[RequestHead], int]
"""A request's key, already hashed to 64 bits."""


def _sticky_by(text: str) -> str:
    if not _COOKIE.fullmatch(text):
        try:
            check_part(text)
        except ValueError as error:
            raise ValueError(f"{error}, or cookie:NAME") from None
    return text


StickyBy = Annotated[str, AfterValidator(_sticky_by)]
"""A settings field: ``subject``, ``ip``, ``tenant``, ``header:NAME``, ``cookie:NAME``, ``claim:PATH`` …"""


def sticky_key(by: str) -> StickyKey:
    """The function that makes the key. A request without that header, cookie or token is recognised by its address.

    Raises ValueError for what is no `StickyBy`.
    """
    _sticky_by(by)
    cookie = _COOKIE.fullmatch(by)
    key = key_of(["ip" if cookie else by])

    def by_part(head: RequestHead) -> int:
        return hash64(repr(key(head)).encode())

    if cookie is None:
        return by_part
    prefix = cookie[1].encode() + b"="

    def by_cookie(head: RequestHead) -> int:
        for pair in head.fields.get(b"cookie", b"").split(b";"):
            stripped = pair.strip()
            if stripped.startswith(prefix) and len(stripped) > len(prefix):
                return hash64(stripped)
        return by_part(head)

    return by_cookie


def hash64(data: bytes) -> int:
    """64 bits of BLAKE2b. Python's own `hash` differs from process to process."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def mix64(key: int, seed: int) -> int:
    """Combine two hashes into one as good as either (the finalizer of SplitMix64): one per choice."""
    x = key ^ seed
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
