"""Checks of what the configuration names or holds for TLS and tokens: files that are there, keys that can be used."""

from collections.abc import Iterator
from pathlib import Path as FilePath

from agent.config.errors import Fault, Path
from agent.config.names import Names
from agent.config.root import Config
from agent.core.errors import OutriggerError
from agent.identity.settings import IssuerSettings
from agent.traffic.upstream_settings import UpstreamTlsSettings


def check_files(config: Config, names: Names) -> Iterator[Fault]:
    """Files that are read at start. Missing ones are doubts only: the check may run elsewhere than the sidecar."""
    del names
    for path, name in _named_files(config):
        if name is not None and not FilePath(name).is_file():
            yield Fault(path, "there is no such file here", "It must be there when the sidecar starts.", "warning")
    yield from _certificate(config)
    for name, issuer in config.issuers.items():
        if issuer.jwks.file is not None and FilePath(issuer.jwks.file).is_file():
            yield from _key_file(issuer, issuer.jwks.file, ("issuers", name, "jwks", "file"))
        elif issuer.jwks.keys is not None:
            yield from _inline_keys(issuer, ("issuers", name, "jwks", "keys"))


def _named_files(config: Config) -> Iterator[tuple[Path, str | None]]:
    tls = config.listen.inbound.tls
    if tls is not None:
        for key in ("cert_file", "key_file", "client_ca_file"):
            yield ("listen", "inbound", "tls", key), getattr(tls, key)
    for name, issuer in config.issuers.items():
        yield ("issuers", name, "jwks", "file"), issuer.jwks.file
        yield ("issuers", name, "ca_file"), issuer.ca_file
    outward: dict[Path, UpstreamTlsSettings | None] = {("app", "tls"): config.app.tls if config.app else None}
    outward |= {("upstreams", name, "tls"): upstream.tls for name, upstream in config.upstreams.items()}
    for path, towards in outward.items():
        if towards is not None:
            for key in ("ca_file", "client_cert_file", "client_key_file"):
                yield (*path, key), getattr(towards, key)


def _certificate(config: Config) -> Iterator[Fault]:
    tls = config.listen.inbound.tls
    if tls is None:
        return
    files = [name for name in (tls.cert_file, tls.key_file, tls.client_ca_file) if name is not None]
    if not all(FilePath(name).is_file() for name in files):
        return
    from agent.proxy.tls import ServerTls, TlsError  # noqa: PLC0415  only where TLS is configured

    try:
        ServerTls(tls)
    except TlsError as error:
        yield Fault(
            ("listen", "inbound", "tls"), str(error).removeprefix("listen.inbound.tls").lstrip(".: "), at_key=True
        )


def _key_file(issuer: IssuerSettings, file: str, path: Path) -> Iterator[Fault]:
    from agent.identity.sources import FileSource, SourceError  # noqa: PLC0415  brings cryptography

    try:
        FileSource(file, issuer.algorithms).read()
    except SourceError as error:
        text = str(error).removeprefix(f"{file}: ")
        yield Fault(path, text, "Put the issuer's JWK Set there, as its jwks_uri answers it.")


def _inline_keys(issuer: IssuerSettings, path: Path) -> Iterator[Fault]:
    from agent.identity.jwk import key_set  # noqa: PLC0415  brings cryptography

    assert issuer.jwks.keys is not None
    try:
        found = key_set(issuer.jwks.keys, issuer.algorithms)
    except OutriggerError as error:
        yield Fault(path, str(error), at_key=True)
    else:
        if found.warnings:
            yield Fault(path, "; ".join(found.warnings), at_key=True)
