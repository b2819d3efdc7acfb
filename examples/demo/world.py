"""Everything that the demo runs: the sidecar, the orders application, two inventories and an issuer of tokens."""

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from examples.demo.child import ROOT, Child
from examples.demo.patience import until
from examples.demo.ports import ReservedPort

_START_S = 30.0
_APPS = ("issuer", "orders", "inventory_1", "inventory_2")


class StartError(Exception):
    """A process didn't start; the message has the end of its log."""


class World:
    """Use it as `async with World() as world`: on leaving, no process and no file is left behind."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="outrigger-demo-"))
        self.config = self.folder / "demo.yaml"
        self._ports = {name: ReservedPort() for name in _APPS}
        self.listening: dict[str, str] = {}
        """Surface → host:port, as the sidecar has logged it."""
        self.children: dict[str, Child] = {}
        self._sessions: list[ClientSession] = []

    async def __aenter__(self) -> "World":
        try:
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    @property
    def http(self) -> ClientSession:
        """For requests; made on first use."""
        if not self._sessions:
            self._sessions.append(ClientSession(timeout=ClientTimeout(total=15)))
        return self._sessions[0]

    def url(self, name: str) -> str:
        """Base address of a surface (`inbound`, `admin`, …) or of an application (`issuer`, `orders`, …)."""
        if name in self.listening:
            return f"http://{self.listening[name]}"
        return f"http://127.0.0.1:{self._ports[name].number}"

    async def token(self, subject: str, *roles: str, **claims: str) -> str:
        """A token from the issuer; `claims` are its query parameters (`scope`, `audience`, `expires_in`)."""
        query = [("role", role) for role in roles] + list(claims.items())
        async with self.http.get(f"{self.url('issuer')}/token/{subject}", params=query) as answer:
            return await answer.text()

    def log_lines(self) -> list[dict[str, Any]]:
        """The sidecar's log so far, access log included."""
        lines = []
        for text in self.children["sidecar"].log.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:  # the last line may not be complete
                continue
        return lines

    async def access_line(self, trace_id: str) -> dict[str, Any]:
        """The access-log line of one request. It is written a moment after the answer."""

        async def find() -> dict[str, Any] | None:
            lines = [line for line in self.log_lines() if line.get("trace_id") == trace_id]
            return lines[-1] if lines else None

        return await until(find)

    async def _start(self) -> None:
        ports = {name: str(port.number) for name, port in self._ports.items()}
        shutil.copyfile(ROOT / "config" / "demo.yaml", self.config)
        self._add("sidecar", "agent", "run", "-c", str(self.config), **self._variables(ports))
        self._add("issuer", "examples.apps.issuer", PORT=ports["issuer"])
        self._add("inventory_1", "examples.apps.inventory", PORT=ports["inventory_1"])
        self._add("inventory_2", "examples.apps.inventory", PORT=ports["inventory_2"])
        for name in ("sidecar", "issuer", "inventory_1", "inventory_2"):
            await self.children[name].start()
        await self._until("sidecar", self._listens)
        self._add("orders", "examples.apps.orders", PORT=ports["orders"], OUTBOUND_URL=self.url("outbound"))
        await self.children["orders"].start()
        for name in _APPS:
            await self._until(name, partial(self._answers, name))
        await self._until("sidecar", self.is_ready)
        self._write_environment(await self.token("you", "reader"))

    def _add(self, name: str, *arguments: str, **environment: str) -> None:
        self.children[name] = Child(name, self.folder / f"{name}.log", *arguments, **environment)

    def _variables(self, ports: dict[str, str]) -> dict[str, str]:
        any_port = dict.fromkeys(("INBOUND_PORT", "LOCAL_PORT", "ADMIN_PORT", "OUTBOUND_PORT"), "0")
        return any_port | {
            "ORDERS_PORT": ports["orders"],
            "INVENTORY_PORT_1": ports["inventory_1"],
            "INVENTORY_PORT_2": ports["inventory_2"],
            "ISSUER_URL": self.url("issuer"),
        }

    @property
    def environment(self) -> dict[str, str]:
        """What the commands in the documentation use."""
        names = {"INBOUND": "inbound", "ADMIN": "admin", "LOCAL": "local", "OUTBOUND": "outbound", "ISSUER": "issuer"}
        return {variable: self.url(name) for variable, name in names.items()} | {"CONFIG": str(self.config)}

    def _write_environment(self, token: str) -> None:
        self.token_file.write_text(token)
        values = self.environment | {"TOKEN": token, "TOKEN_FILE": str(self.token_file)}
        lines = [f"export {name}='{value}'\n" for name, value in values.items()]
        (self.folder / "env").write_text("".join(lines))

    @property
    def token_file(self) -> Path:
        """Where a good token of a reader lies."""
        return self.folder / "token"

    async def _listens(self) -> bool:
        told = [line for line in self.log_lines() if line.get("message") == "listening"]
        if told:
            self.listening = {name: told[-1][name] for name in ("inbound", "local", "admin", "outbound")}
        return bool(told)

    async def _answers(self, name: str) -> bool:
        try:
            async with self.http.get(f"{self.url(name)}/"):
                return True
        except (ClientError, TimeoutError):
            return False

    async def is_ready(self) -> bool:
        """Whether the sidecar says that it should get traffic."""
        async with self.http.get(f"{self.url('admin')}/readyz") as answer:
            return answer.status == 200

    async def _until(self, name: str, condition: Callable[[], Awaitable[bool]]) -> None:
        child = self.children[name]

        async def happened() -> bool:
            if not child.is_running:
                raise StartError(f"{name} ended instead of starting:\n{_tail(child.log)}")
            return await condition()

        try:
            await until(happened, wait_s=_START_S)
        except TimeoutError:
            raise StartError(f"{name} didn't start within {_START_S:g} s:\n{_tail(child.log)}") from None

    async def _end(self) -> None:
        try:
            for session in self._sessions:
                await session.close()
            sidecar = self.children.pop("sidecar", None)
            if sidecar is not None:
                await sidecar.stop(signal.SIGINT)  # first, so that it never finds its application gone
            await asyncio.gather(*(child.stop() for child in self.children.values()))
        finally:
            for port in self._ports.values():
                port.release()
            shutil.rmtree(self.folder, ignore_errors=True)


def _tail(log: Path) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-15:]) or "(its log is empty)"
