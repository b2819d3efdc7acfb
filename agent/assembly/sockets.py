"""Every surface's socket, bound before anything else begins: a taken address is found out at once, and once."""

import os
import socket
from pathlib import Path

from agent.config.root import Config
from agent.proxy.listener import BindError, bind, place_of
from agent.proxy.settings import SurfaceSettings

DATA_PATH = ("inbound", "outbound")
"""Surfaces on which every worker listens; the others belong to the process that was started."""


class Sockets:
    """What is bound, by surface. With workers the ports of the data path are only held here, and bound by each."""

    def __init__(self, config: Config) -> None:
        """Bind all that `config` wants. Raises BindError with every address that can't be had."""
        self._settings: dict[str, SurfaceSettings] = {"inbound": config.listen.inbound}
        if config.upstreams:
            self._settings["outbound"] = config.listen.outbound
        self._settings |= {"admin": config.listen.admin, "local": config.listen.local}
        self._bound: dict[str, socket.socket] = {}
        self._files: dict[str, tuple[str, tuple[int, int]]] = {}
        """Surface → its socket file, and what the file was when it was made."""
        self.places: dict[str, str] = {}
        """Surface → the address that was bound."""
        taken = []
        try:
            for name, settings in self._settings.items():
                try:
                    self._bind(name, settings, shared=config.workers > 1 and name in DATA_PATH)
                except BindError as error:
                    taken.append(f"listen.{name}: {error}")
            if taken:
                raise BindError("; ".join(taken))
        except BaseException:
            self.close()
            raise

    def _bind(self, name: str, settings: SurfaceSettings, *, shared: bool) -> None:
        if settings.unix is not None:
            self._bound[name] = bind(settings)
            self._files[name] = settings.unix, _identity(settings.unix)
        elif shared:
            if settings.port:
                bind(settings).close()  # a shared port could also be shared with another sidecar, by mistake
            self._bound[name] = bind(settings, reuse_port=True)
            port = self._bound[name].getsockname()[1]
            self._settings[name] = settings.model_copy(update={"port": port})
        else:
            self._bound[name] = bind(settings)
        self.places[name] = place_of(self._bound[name])

    def take(self, name: str) -> socket.socket | None:
        """The surface's socket for this process itself; None where there is no such surface."""
        return self._bound.get(name)

    def bind_again(self, name: str) -> socket.socket | None:
        """A worker's own socket on the same port; of a Unix socket there is only the one, which it inherits."""
        if name not in self._settings:
            return None
        settings = self._settings[name]
        return self._bound[name] if settings.unix is not None else bind(settings, reuse_port=True)

    @property
    def inherited(self) -> list[int]:
        """Descriptors that a worker has to keep."""
        return [self._bound[name].fileno() for name in DATA_PATH if name in self._files]

    def close(self, *names: str) -> None:
        """Let go of these surfaces, or of all, and remove their socket files."""
        for name in names or tuple(self._settings):
            if name in self._bound:
                self._bound.pop(name).close()
            path, identity = self._files.pop(name, ("", None))
            if path and _identity(path) == identity:
                Path(path).unlink(missing_ok=True)


def _identity(path: str) -> tuple[int, int]:
    """Equal as long as the file is the same: another process may have taken the path over."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino
