"""What a route asks of a request: settings, and their compiled form without the path."""

import re
from typing import Annotated
from urllib.parse import unquote_plus

from pydantic import AfterValidator, Field

from agent.core.settings import Settings
from agent.traffic.templates import PathTemplate
from agent.wire.head import RequestHead
from agent.wire.path import AmbiguousPathError

_HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_IPV6 = re.compile(r"\[[0-9a-f:.]+\]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _host(text: str) -> str:
    lower = text.lower()
    if lower and not _HOST.fullmatch(lower) and not _IPV6.fullmatch(lower):
        raise ValueError(f"{text!r} is no host name: write api.example or *.example, without a port")
    return lower


def _path(text: str) -> str:
    PathTemplate(text)
    return text


def _methods(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is no method")
    return tuple(name.upper() for name in names)


def _headers(wanted: dict[str, str]) -> dict[str, str]:
    for name in wanted:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is no header name")
        if name.lower() == "host":
            raise ValueError("match the host with `host`, not as a header")
    return {name.lower(): value for name, value in wanted.items()}


class MatchSettings(Settings):
    """All that is given must hold. The first route that matches wins."""

    host: Annotated[str, AfterValidator(_host)] = ""
    """Host name without port: exact, or `*.example` for every name below `example`. Empty: any."""
    path: Annotated[str, AfterValidator(_path)] = "/**"
    """`/orders` (exactly this), `/orders/{id}` or `/orders/*` (one segment), `/orders/**` (`/orders` and all below)."""
    methods: Annotated[tuple[str, ...], AfterValidator(_methods)] = ()
    """Methods; `GET` includes `HEAD`. Empty: any."""
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = Field(default_factory=dict)
    """Header → its exact value, or `*` for any value. Repeated fields are compared as joined by a comma and a space."""
    query: dict[str, str] = Field(default_factory=dict)
    """Query parameter → its exact value after decoding, or `*` for any. A request that repeats it with
    different values is refused: servers read the first, the last or all of them."""


def values_of(query: bytes) -> dict[str, str | None]:
    """The value of each parameter of a query (``application/x-www-form-urlencoded``), None where it has several."""
    values: dict[str, str | None] = {}
    for pair in query.decode("utf-8", "replace").split("&"):
        raw_name, _, raw_value = pair.partition("=")
        name, value = unquote_plus(raw_name), unquote_plus(raw_value)
        if values.setdefault(name, value) != value:
            values[name] = None
    return values


class Conditions:
    """Host, methods, headers and query of one route, compiled. Each `*_differs` says why not, ``""`` if it matches."""

    __slots__ = ("_headers", "_host", "_methods", "_query", "_suffix", "has_host", "is_plain")

    def __init__(self, settings: MatchSettings, *, answers_preflights: bool) -> None:
        wildcard = settings.host.startswith("*.")
        self._suffix = settings.host[1:].encode() if wildcard else b""
        self._host = b"" if wildcard else settings.host.encode()
        self.has_host = settings.host != ""
        methods = {name.encode() for name in settings.methods}
        if b"GET" in methods:
            methods.add(b"HEAD")
        if answers_preflights and methods:
            methods |= {PREFLIGHT + name for name in methods}
        self._methods = frozenset(methods)
        self._headers = tuple((name.encode(), value.encode()) for name, value in settings.headers.items())
        self._query = tuple(settings.query.items())
        self.is_plain = not self._headers and not self._query
        """Whether host and method say all, so that the answer may be cached without looking at fields and query."""

    def host_differs(self, host: bytes) -> str:
        """Judge the lower-case host without a port."""
        if self._host and host != self._host:
            return f"host is {host.decode('latin-1')!r}, not {self._host.decode()!r}"
        if self._suffix and not (host.endswith(self._suffix) and len(host) > len(self._suffix)):
            return f"host {host.decode('latin-1')!r} isn't below {self._suffix[1:].decode()!r}"
        return ""

    def method_differs(self, method: bytes) -> str:
        """Judge a method as `effective_method` gives it."""
        if not self._methods or method in self._methods:
            return ""
        if method.startswith(PREFLIGHT) and b"OPTIONS" in self._methods:
            return ""
        return f"method {method.decode('latin-1')} isn't among {self._shown_methods()}"

    def fields_differ(self, head: RequestHead) -> str:
        """Judge headers and query.

        Raises AmbiguousPathError where the answer depends on which of a parameter's values a server reads.
        """
        for name, value in self._headers:
            found = head.fields.get(name)
            if found is None:
                return f"header {name.decode()} is missing"
            if value not in {b"*", found}:
                return f"header {name.decode()} isn't {value.decode()!r}"
        if not self._query:
            return ""
        values = values_of(head.query)
        for parameter, wanted in self._query:
            if parameter not in values:
                return f"query parameter {parameter} is missing"
            given = values[parameter]
            if given is None and wanted != "*":
                raise AmbiguousPathError(f"query parameter {parameter} has several values")
            if wanted not in {"*", given}:
                return f"query parameter {parameter} isn't {wanted!r}"
        return ""

    def _shown_methods(self) -> str:
        return ", ".join(sorted(name.decode() for name in self._methods if not name.startswith(PREFLIGHT)))


PREFLIGHT = b"OPTIONS "
"""Stands before the method that a CORS preflight asks for."""


def effective_method(head: RequestHead) -> bytes:
    """The method, or ``OPTIONS M`` for a CORS preflight that asks for M (Fetch standard, section 3.2.2)."""
    method = head.method
    if method == b"OPTIONS" and b"origin" in head.fields:
        asked = head.fields.get(b"access-control-request-method")
        if asked is not None and len(asked) <= 32:
            return PREFLIGHT + asked
    return method
