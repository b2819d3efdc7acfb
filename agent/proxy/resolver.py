"""Names to addresses, again and again: a cluster follows its DNS records without losing connections or statistics."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence

from agent.core.address import Address
from agent.core.tasks import spawn
from agent.proxy.cluster import Cluster, Target

_RETRY_S = 1.0


def is_name(address: Address) -> bool:
    """Whether the address has to be looked up."""
    if address.scheme == "unix" or address.host == "localhost":
        return False
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return True
    return False


class Resolver:
    """Keeps one cluster's targets equal to what its names resolve to."""

    def __init__(
        self,
        cluster: Cluster,
        addresses: Sequence[Address],
        make: Callable[[Address, Address], Target],
        refresh_s: float,
        on_error: Callable[[str], None],
    ) -> None:
        """`make(address, named)` builds the target of one IP address that the configured `named` resolved to."""
        self._cluster = cluster
        self._addresses = addresses
        self._make = make
        self._refresh_s = refresh_s
        self._on_error = on_error
        self._task: asyncio.Task[None] | None = None
        self._known: dict[Address, Target] = {target.address: target for target in cluster.targets}

    def start(self) -> None:
        """Look names up in the background, where there are any."""
        if any(map(is_name, self._addresses)):
            self._task = spawn(self._follow(), name=f"resolve {self._cluster.name}")

    def stop(self) -> None:
        """End the background work."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _follow(self) -> None:
        while True:
            found = await self._look_up()
            if found:
                self._apply(found)
            await asyncio.sleep(self._refresh_s if found else min(_RETRY_S, self._refresh_s))

    async def _look_up(self) -> dict[Address, Address]:
        """IP address → the configured address that it stands for. Empty where a name failed: the old ones stay."""
        found: dict[Address, Address] = {}
        for named in self._addresses:
            if not is_name(named):
                found[named] = named
                continue
            try:
                infos = await asyncio.get_running_loop().getaddrinfo(
                    named.host, named.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
                )
            except OSError as error:
                self._on_error(
                    f"upstream {self._cluster.name}: {named.host} doesn't resolve: {error.strerror or error}"
                )
                return {}
            for info in infos:
                found[named._replace(host=str(info[4][0]))] = named
        return found

    def _apply(self, found: dict[Address, Address]) -> None:
        if found.keys() == self._known.keys():
            return
        targets = {
            address: self._known.get(address) or self._make(address, found[address]) for address in sorted(found)
        }
        gone = [target for address, target in self._known.items() if address not in targets]
        self._known = targets
        self._cluster.use(list(targets.values()))
        for target in gone:
            target.pool.close()
