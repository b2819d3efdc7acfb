"""Where something listens: a TCP address with or without TLS, or a Unix socket, as users write it."""

from typing import NamedTuple
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """One place to connect to. `path` is set for Unix sockets, `host` and `port` for all others."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def is_tls(self) -> bool:
        """Whether to speak TLS to it."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """`host:port` as in a Host field, the port left out where it is the scheme's own (RFC 9110, section 7.2)."""
        if self.scheme == "unix":
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """As users write it."""
        return f"unix:{self.path}" if self.scheme == "unix" else f"{self.scheme}://{self.authority}"


def parse_address(text: str) -> Address:
    """Read ``http://host:port``, ``https://host`` or ``unix:/run/app.sock``.

    Raises ValueError with a sentence that says what would be right.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"{text!r}: a Unix socket needs an absolute path, as in unix:/run/app.sock")
        return Address("unix", "", 0, path)
    parts = urlsplit(text)
    if "@" in parts.netloc:  # whoever wrote credentials there doesn't want to read them in a log
        text = text.replace(parts.netloc.rpartition("@")[0], "***", 1)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{text!r} is no address: write http://HOST:PORT, https://HOST or unix:/PATH")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{text!r}: only scheme, host and port; paths belong to routes, credentials to policies")
    return Address(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])
