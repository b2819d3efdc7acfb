"""TLS on the inbound listener: certificates are read again when their files change, without closing a connection."""

import ssl
from pathlib import Path

from agent.core.errors import OutriggerError
from agent.proxy.settings import TlsSettings

TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_CERT = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class TlsError(OutriggerError):
    """A certificate, key or authority file can't be used; the text names it."""


class ServerTls:
    """The listener's TLS context and the files it comes from."""

    __slots__ = ("_doubtful", "_refused", "_seen", "_settings", "context")

    def __init__(self, settings: TlsSettings) -> None:
        """Read all files. Raises TlsError."""
        self._settings = settings
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = TLS_VERSIONS[settings.min_version]
        self.context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.verify_mode = _CLIENT_CERT[settings.client_cert]
        if settings.client_ca_file:
            try:
                self.context.load_verify_locations(settings.client_ca_file)
            except (OSError, ssl.SSLError) as error:
                raise TlsError(f"listen.inbound.tls.client_ca_file {settings.client_ca_file}: {error}") from None
        _load_pair(self.context, settings)
        self._seen = self._state()
        self._doubtful = self._refused = self._seen

    def refresh(self) -> bool:
        """Read certificate and key again if a file changed; handshakes from now on use them.

        A pair that doesn't fit is left for the next look, since files are replaced one after the other: the old one
        stays. Returns whether a new pair is in use. Raises TlsError, once, where the new files can't be used.
        """
        state = self._state()
        if state in (self._seen, self._refused):
            return False
        try:
            _load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._settings)  # a failed load may half change one
        except TlsError:
            if state != self._doubtful:
                self._doubtful = state
                return False
            self._refused = state
            raise
        _load_pair(self.context, self._settings)
        self._seen = state
        return True

    def _state(self) -> tuple[tuple[int, int, int], ...]:
        files = (self._settings.cert_file, self._settings.key_file)
        stats = [Path(file).stat() for file in files if Path(file).exists()]
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


def _load_pair(context: ssl.SSLContext, settings: TlsSettings) -> None:
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        where = f"listen.inbound.tls: {settings.cert_file} with {settings.key_file}"
        raise TlsError(f"{where}: {error}") from None
