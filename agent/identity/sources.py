"""Where key sets come from: a file, a URL, or OIDC discovery. Each reads once when asked; when to ask is not theirs."""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from agent.core.clock import Clock
from agent.drivers.fetch import Fetched, FetchError
from agent.identity.jwk import KeySet, KeySetError, read_key_set
from agent.identity.settings import IssuerSettings, check_url
from agent.wire.jws import JwsError, read_object

MAX_DOCUMENT_BYTES = 524_288
REDISCOVER_S = 3600.0
"""How long a discovered address is used before the provider is asked again."""


class Fetch(Protocol):
    """As `agent.drivers.fetch.fetch`."""

    async def __call__(
        self,
        url: str,
        *,
        timeout_s: float,
        max_bytes: int,
        ca_file: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Fetched:
        """GET the URL. Raises a `FetchError`."""


class SourceError(Exception):
    """No key set this time. `result` is one word for metrics, the text says what happened and what to do."""

    def __init__(self, result: str, text: str) -> None:
        super().__init__(text)
        self.result = result


class Source(ABC):
    """One place of one issuer's keys."""

    poll_s: float | None = None
    """Seconds between looks for a change where looking costs next to nothing; None where it is a call."""

    @abstractmethod
    async def load(self) -> KeySet | None:
        """The keys as they are now, or None where nothing changed. Raises `SourceError`."""


class FileSource(Source):
    """A JWK Set in a file; a change is seen by its inode, size and modification time (mounted secrets are swapped)."""

    poll_s = 5.0

    def __init__(self, path: str, algorithms: Iterable[str]) -> None:
        self._path = Path(path)
        self._algorithms = tuple(algorithms)
        self._seen: tuple[int, ...] = ()

    async def load(self) -> KeySet | None:
        """As in the base."""
        return await asyncio.to_thread(self.read)

    def read(self) -> KeySet | None:
        """As `load`, for who may wait for the disk."""
        raw, identity = self._read()
        if raw is None:
            return None
        keys = _parse(raw, self._algorithms, str(self._path))
        self._seen = identity
        return keys

    def _read(self) -> tuple[bytes | None, tuple[int, ...]]:
        if self._path.is_fifo():
            raise SourceError("unreadable", f"{self._path}: a pipe, whose other end may never write; put a file there")
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                identity = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
                if identity == self._seen:
                    return None, identity
                raw = file.read(MAX_DOCUMENT_BYTES + 1)
        except OSError as error:
            raise SourceError("unreadable", f"{self._path}: {error.strerror}; put the JWK Set there") from None
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise SourceError("too_large", f"{self._path}: more than {MAX_DOCUMENT_BYTES} bytes")
        return raw, identity


class UrlSource(Source):
    """A JWK Set at a fixed address."""

    def __init__(self, url: str, settings: IssuerSettings, fetch: Fetch) -> None:
        self._url = url
        self._settings = settings
        self._fetch = fetch

    async def load(self) -> KeySet:
        """As in the base."""
        return _parse(await get(self._url, self._settings, self._fetch), self._settings.algorithms, self._url)


class DiscoverySource(Source):
    """A JWK Set whose address the issuer's own metadata tells (OpenID Connect Discovery 1.0, section 4)."""

    def __init__(self, settings: IssuerSettings, fetch: Fetch, clock: Clock) -> None:
        self._url = settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        self._settings = settings
        self._fetch = fetch
        self._clock = clock
        self._jwks_uri = ""
        self._ask_at = 0.0

    async def load(self) -> KeySet:
        """As in the base. One call to the provider while the address is known, two where it has to be found."""
        if not self._jwks_uri or self._clock() >= self._ask_at:
            await self._discover()
        source = UrlSource(self._jwks_uri, self._settings, self._fetch)
        try:
            return await source.load()
        except SourceError:
            # It may have moved: ask for the address next time, and keep this one in case that fails too.
            self._ask_at = self._clock()
            raise

    async def _discover(self) -> None:
        try:
            uri = self._address(await get(self._url, self._settings, self._fetch))
        except SourceError:
            if not self._jwks_uri:
                raise
        else:
            self._jwks_uri, self._ask_at = uri, self._clock() + REDISCOVER_S

    def _address(self, raw: bytes) -> str:
        try:
            document = read_object(raw, "discovery document")
        except JwsError as error:
            raise SourceError("garbage", f"{self._url}: {error}") from None
        if document.get("issuer") != self._settings.issuer:
            raise SourceError(
                "foreign_issuer",
                f"{self._url} speaks for {ascii(document.get('issuer'))[:200]}, not for {self._settings.issuer!r}; "
                "write the configured issuer exactly as the provider does",
            )
        uri = document.get("jwks_uri")
        if not isinstance(uri, str):
            raise SourceError("garbage", f"{self._url} has no jwks_uri")
        self._check_address(uri)
        return uri

    def _check_address(self, uri: str) -> None:
        try:
            parts = check_url(uri, allow_plain_http=True)
            own = check_url(self._settings.issuer, allow_plain_http=True)
        except ValueError as error:
            raise SourceError("garbage", f"{self._url}: jwks_uri: {error}") from None
        if parts.scheme == "https":
            return
        # The settings have seen to it that an issuer on plain HTTP is this machine, or trusted on purpose.
        if (own.scheme, own.hostname, own.port) != (parts.scheme, parts.hostname, parts.port):
            raise SourceError(
                "insecure",
                f"{self._url} points to keys at {ascii(uri)[:200]}: over plain HTTP they are only fetched from the "
                "issuer's own address; let the provider publish https, or set jwks.url",
            )


async def get(url: str, settings: IssuerSettings, fetch: Fetch) -> bytes:
    """The body of a 200 answer. Raises `SourceError` for everything else, redirects included."""
    try:
        answer = await fetch(url, timeout_s=settings.timeout_s, max_bytes=MAX_DOCUMENT_BYTES, ca_file=settings.ca_file)
    except FetchError as error:
        raise SourceError(error.result, str(error)) from None
    if 300 <= answer.status < 400:
        raise SourceError(
            "redirect", f"{_shown(url)} redirects; redirects are never followed, so configure the final address"
        )
    if answer.status != 200:
        raise SourceError("status", f"{_shown(url)} answered {answer.status} instead of 200")
    return answer.body


def open_source(settings: IssuerSettings, fetch: Fetch, clock: Clock) -> Source:
    """The source that the settings name (not for inline keys and secrets, which need none)."""
    if settings.jwks.file is not None:
        return FileSource(settings.jwks.file, settings.algorithms)
    if settings.jwks.url is not None:
        return UrlSource(settings.jwks.url, settings, fetch)
    return DiscoverySource(settings, fetch, clock)


def _parse(raw: bytes, algorithms: Iterable[str], where: str) -> KeySet:
    try:
        return read_key_set(raw, algorithms)
    except KeySetError as error:
        raise SourceError("garbage", f"{_shown(where)}: {error}") from None


def _shown(url: str) -> str:
    return url.partition("?")[0]
