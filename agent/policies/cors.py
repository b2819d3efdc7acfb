"""CORS at the edge (Fetch standard, section 3.3): preflights are answered here, and other responses get their headers.

The policy stands before authentication, since a preflight never carries a token, and a 401 without these headers can't
be read by the page that caused it. An origin that isn't allowed is refused only in a preflight: any other request may
as well come from something that is no browser, and gets its answer without CORS headers, which browsers then withhold.

What the application says about CORS is taken out of its responses (`response_drop`): two `Access-Control-Allow-Origin`
are none to a browser. A route without this policy keeps its hands off.

Nothing from the request is echoed unless it has matched: an origin whole against the configuration, a header name the
token grammar. So no request can put a line of its own into a response.
"""

import re
from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from agent.core.settings import Settings as SettingsModel
from agent.ports.policy import Deny, Policy, Verdict
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from agent.wire.problem import EmptyAnswer, Refusal

RESPONSE_FIELDS = frozenset({
    b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-allow-methods",
    b"access-control-allow-headers", b"access-control-expose-headers", b"access-control-max-age",
    b"access-control-allow-private-network",
})  # fmt: skip

CACHE_SIZE = 1024
"""Origins that matched a pattern and whose lines are kept."""

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\*\.)?([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}|\*))?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_VARY_PREFLIGHT = b"vary: origin, access-control-request-method, access-control-request-headers\r\n"

Names = Literal["*"] | tuple[str, ...]


def parse_origin(text: str) -> str:
    """An allowed origin or pattern in the form that browsers send: lower case, without the scheme's own port.

    Raises ValueError with a sentence that says what would be right.
    """
    if text == "null":
        return text
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        raise ValueError(
            f"{text!r} is no origin: write https://shop.example, https://*.shop.example, http://localhost:* or null; "
            "no path, no slash at the end, names beyond ASCII in their xn-- form"
        )
    scheme, wildcard, host, port = found.groups()
    if wildcard and "." not in host.strip("."):
        raise ValueError(f"{text!r} lets in every site under {host!r}: name the domain too, as in *.shop.example")
    suffix = "" if port in (None, _DEFAULT_PORTS.get(scheme)) else f":{port}"
    return f"{scheme}://{wildcard or ''}{host}{suffix}"


def pattern_of(origins: Iterable[str]) -> "re.Pattern[bytes] | None":
    """One expression that whole origins match, for those entries that hold a ``*``."""
    sources = []
    for origin in origins:
        scheme, _, rest = origin.partition("://")
        rest = re.escape(rest).replace(r"\*\.", r"(?:[a-z0-9_-]+\.)+").replace(r":\*", r"(?::[0-9]{1,5})?")
        sources.append(f"{re.escape(scheme)}://{rest}")
    return re.compile("|".join(sources).encode()) if sources else None


class Settings(SettingsModel):
    """Which web pages may use a route from a browser."""

    allow_origins: Names
    """`"*"` for every page, or a list of origins: exact (`https://shop.example`), for any subdomain
    (`https://*.shop.example`), for any port (`http://localhost:*`). `null`, which sandboxed frames and local files
    send, is allowed by `"*"` and where it is listed, and matches no pattern."""
    allow_methods: Names = ("GET", "HEAD", "POST")
    """Methods that a preflight may ask for, or `"*"`."""
    allow_headers: Names = ("authorization", "content-type")
    """Request headers that a preflight may ask for, or `"*"`. Names are compared without regard to case."""
    expose_headers: Names = ()
    """Response headers that scripts may read besides the few that are always readable, or `"*"`."""
    allow_credentials: bool = False
    """Let browsers send cookies and client certificates. Needs origins by name: `"*"` is refused."""
    max_age_s: int = Field(default=600, ge=0, le=86400)
    """Seconds for which a browser may remember a preflight's answer. Chromium caps it at 7200."""
    private_network: bool = False
    """Let public web pages reach this route on a private network (`Access-Control-Request-Private-Network`)."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow` decides and records, but never refuses and adds nothing to responses."""

    @field_validator("allow_origins")
    @classmethod
    def _normal(cls, values: Names) -> Names:
        if "*" in values:
            if values not in ("*", ("*",)):
                raise ValueError('"*" already lets every origin in: write only "*", or only the origins')
            return "*"
        if not values:
            raise ValueError("no origin is allowed: list some, or leave the cors section out")
        return tuple(parse_origin(value) for value in values)

    @field_validator("allow_methods", "allow_headers", "expose_headers")
    @classmethod
    def _tokens(cls, values: Names) -> Names:
        if "*" in values:
            return "*"
        for value in values:
            if not _TOKEN.fullmatch(value):
                raise ValueError(f"{value!r} is no name of a method or header")
        return values

    @model_validator(mode="after")
    def _safe(self) -> "Settings":
        if self.allow_credentials and self.allow_origins == "*":
            raise ValueError(
                'allow_credentials with allow_origins "*" gives any page its visitors\' sessions: list origins'
            )
        if self.allow_credentials and self.expose_headers == "*":
            raise ValueError('browsers ignore expose_headers "*" where allow_credentials is set: list the headers')
        return self


def _encoded(values: Iterable[str]) -> frozenset[bytes]:
    return frozenset(value.encode() for value in values)


def _line(name: bytes, values: Names) -> bytes:
    """The header line for a list that is the same for everyone."""
    text = values if values == "*" else ", ".join(values)
    return name + b": " + text.encode() + b"\r\n" if text else b""


class Cors(Policy):
    """Answers preflights with 204 or 403 `cors_denied`, and adds the headers that browsers want to other responses."""

    __slots__ = (
        "_anyone", "_credentials", "_exact", "_exposed", "_headers", "_known", "_methods", "_pattern", "_preflight",
        "_private", "_refusal", "_vary",
    )  # fmt: skip

    name: ClassVar[str] = "cors"
    response_drop: ClassVar[frozenset[bytes]] = RESPONSE_FIELDS
    """Lower-case names of the fields that are taken out of the application's response."""

    def __init__(self, settings: Settings, *, route: str, registry: Registry) -> None:
        del route, registry
        origins = () if settings.allow_origins == "*" else settings.allow_origins
        self._vary = b"vary: origin\r\n" if origins else b""
        self._credentials = b"access-control-allow-credentials: true\r\n" if settings.allow_credentials else b""
        self._exposed = _line(b"access-control-expose-headers", settings.expose_headers)
        self._anyone = b"" if origins else b"access-control-allow-origin: *\r\n" + self._exposed
        self._pattern = pattern_of(origin for origin in origins if "*" in origin)
        self._exact = {origin: self._lines(origin) for origin in _encoded(o for o in origins if "*" not in o)}
        self._known = dict(self._exact)
        self._methods = None if settings.allow_methods == "*" else _encoded(settings.allow_methods)
        self._headers = (
            None if settings.allow_headers == "*" else _encoded(name.lower() for name in settings.allow_headers)
        )
        self._private = settings.private_network
        self._preflight = EmptyAnswer("cors_preflight", 204, self._static_lines(settings))
        self._refusal = Refusal("cors_denied")

    def _static_lines(self, settings: Settings) -> bytes:
        methods = b"" if self._methods is None else _line(b"access-control-allow-methods", settings.allow_methods)
        headers = b"" if self._headers is None else _line(b"access-control-allow-headers", settings.allow_headers)
        return methods + headers + b"access-control-max-age: %d\r\n" % settings.max_age_s + _VARY_PREFLIGHT

    def _lines(self, origin: bytes) -> bytes:
        return b"access-control-allow-origin: " + origin + b"\r\n" + self._credentials + self._exposed + self._vary

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """Answer a preflight; give any other request's response what its origin may have."""
        del now
        origin = head.fields.get(b"origin")
        if origin is None:
            head.response_extra += self._vary
            return None
        lines = self._anyone or self._known.get(origin) or self._recognise(origin)
        if head.method == b"OPTIONS" and b"access-control-request-method" in head.fields:
            return self._answer(head, origin, is_allowed=bool(lines))
        head.response_extra += lines or self._vary
        return None

    def _recognise(self, origin: bytes) -> bytes:
        """The lines for an origin that a pattern matches, ``b""`` where none does."""
        if not self._matches(origin):
            return b""
        if len(self._known) >= CACHE_SIZE + len(self._exact):
            self._known = dict(self._exact)
        return self._known.setdefault(origin, self._lines(origin))

    def _answer(self, head: RequestHead, origin: bytes, *, is_allowed: bool) -> Deny:
        objection = self._objection(head) if is_allowed else f"origin {origin.decode('latin-1')!r} isn't allowed"
        if objection:
            return Deny(self._refusal, extra=_VARY_PREFLIGHT, why=objection)
        fields = head.fields
        extra = b"access-control-allow-origin: " + (b"*" if self._anyone else origin) + b"\r\n" + self._credentials
        if self._methods is None:
            extra += b"access-control-allow-methods: " + fields[b"access-control-request-method"] + b"\r\n"
        if self._headers is None and (names := requested_headers(head)):
            extra += b"access-control-allow-headers: " + b", ".join(names) + b"\r\n"
        if self._private and fields.get(b"access-control-request-private-network") == b"true":
            extra += b"access-control-allow-private-network: true\r\n"
        return Deny(self._preflight, extra=extra, why="a preflight that is allowed")

    def _objection(self, head: RequestHead) -> str:
        """Why the method or a header of a preflight isn't allowed; empty where all are."""
        method = head.fields[b"access-control-request-method"]
        if not (_is_token(method) if self._methods is None else method in self._methods):
            return f"method {method.decode('latin-1')!r} isn't allowed"
        for name in requested_headers(head):
            if not (_is_token(name) if self._headers is None else name in self._headers):
                return f"request header {name.decode('latin-1')!r} isn't allowed"
        return ""

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """What happens to the preflight, or what a browser makes of the response."""
        del now
        origin = head.fields.get(b"origin")
        if origin is None:
            return "allow", "no Origin: not a cross-origin request of a browser"
        text = origin.decode("latin-1")
        is_allowed = bool(self._anyone or origin in self._exact or self._matches(origin))
        if head.method == b"OPTIONS" and b"access-control-request-method" in head.fields:
            answer = self._answer(head, origin, is_allowed=is_allowed)
            return "deny", f"answered with {answer.refusal.status} and not forwarded: {answer.why}"
        if is_allowed:
            return "allow", f"origin {text!r} is allowed: the page may read the response"
        return "allow", f"origin {text!r} isn't allowed: a browser withholds the response from the page"

    def _matches(self, origin: bytes) -> bool:
        return self._pattern is not None and self._pattern.fullmatch(origin) is not None


def _is_token(value: bytes) -> bool:
    return _TOKEN.fullmatch(value.decode("latin-1")) is not None


def requested_headers(head: RequestHead) -> list[bytes]:
    """Lower-case names that a preflight's `Access-Control-Request-Headers` lists."""
    listed = head.fields.get(b"access-control-request-headers", b"").lower().split(b",")
    return [name for part in listed if (name := part.strip(b" \t"))]
