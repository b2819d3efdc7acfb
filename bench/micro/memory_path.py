"""The whole data path between two transports in memory: what a request costs without sockets and kernel."""

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.assembly.data_path import DataPath
from agent.config.load import loads
from agent.proxy.context import Context
from agent.proxy.downstream import Downstream
from agent.proxy.upstream import UpstreamConnection
from agent.telemetry.access_log import AccessLog
from agent.telemetry.metrics import Registry
from bench import tokens
from bench.outrigger_config import VARIANTS, Places, build

ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 24 Nov 2026 06:40:11 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 150\r\nConnection: keep-alive\r\n\r\n" + b"x" * 150
)


class MemoryTransport(asyncio.Transport):
    """Takes bytes and keeps the last ones."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 40000)})
        self.last = b""

    def write(self, data: Any) -> None:
        """Keep what was written."""
        self.last = data

    def is_closing(self) -> bool:
        """Never."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def can_write_eof(self) -> bool:
        """There is no end."""
        return False

    def close(self) -> None:
        """Nothing to close."""

    def abort(self) -> None:
        """Nothing to cut."""


class MemoryPath:
    """One client and one upstream connection of a sidecar in one of the bench's variants."""

    context: Context
    client: Downstream
    upstream: UpstreamConnection
    client_transport: MemoryTransport
    request: bytes

    @classmethod
    async def make(cls, variant: str, key: rsa.RSAPrivateKey | None = None) -> "MemoryPath":
        """Set everything up; stays usable only inside the running loop. `key` signs the token, by default a new one."""
        self = cls()
        key = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        features = VARIANTS[variant]
        with tempfile.TemporaryDirectory() as folder:
            jwks = Path(folder) / "jwks.json"
            jwks.write_text(json.dumps(tokens.jwks(key.public_key())))
            config = loads(yaml.safe_dump(build(features, Places(0, 0, 0, 1, jwks))))
            registry = Registry()
            self.context = Context(config.limits, registry, AccessLog(1 << 30, registry), report=_raise)
            path = DataPath(self.context, tls=False, warn=print)
            generation = path.prepare(config)
            for issuer in generation.issuers.values():
                await _fetch(issuer)
        self.client_transport = MemoryTransport()
        self.client = Downstream(path.inbound)
        self.client.connection_made(self.client_transport)
        pool = next(iter(generation.clusters.values())).cluster.targets[0].pool
        self.upstream = UpstreamConnection(pool)
        self.upstream.connection_made(MemoryTransport())
        pool.give_back(self.upstream, self.context.clock())
        token = f"Authorization: Bearer {tokens.sign(key, tokens.claims(1, int(time.time())))}\r\n"
        token = token if issuer_needed(features) else ""
        self.request = (
            f"GET /orders/1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: */*\r\n{token}User-Agent: bench\r\n\r\n"
        ).encode()
        return self

    def round(self) -> None:
        """One request and its answer."""
        self.client.data_received(self.request)
        self.upstream.data_received(ANSWER)

    def check(self) -> None:
        """That the answer really went through."""
        self.round()
        answer = self.client_transport.last
        assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
        sent = cast(MemoryTransport, self.upstream.transport).last
        assert sent.startswith(b"GET /orders/1"), sent[:300]


def issuer_needed(features: frozenset[str]) -> bool:
    """Whether requests carry a token."""
    return bool(features & {"jwt", "role"})


async def _fetch(issuer: Any) -> None:
    need = issuer.keys.need(None)
    if need is not None:
        await need.fetch()


def _raise(where: str, error: BaseException) -> None:
    raise error
