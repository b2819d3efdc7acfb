"""One request and its answer, shown on the screen."""

import json
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

from examples.demo.screen import Screen
from examples.demo.world import World

_SHOWN = ("Content-Type", "WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Outrigger-Reason")


class Answer(NamedTuple):
    """What came, and the trace by which its log line is found."""

    status: int
    fields: Mapping[str, str]
    text: str
    trace_id: str

    @property
    def data(self) -> Any:
        """The body as JSON, None where it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def origin(self) -> str:
        """Who made the answer."""
        return self.fields.get("X-Outrigger-Origin", "")

    @property
    def reason(self) -> str:
        """The code of a refusal."""
        return self.fields.get("X-Outrigger-Reason", "")


class Talk:
    """The steps' way to talk: to the sidecar as a client, to the processes as their operator."""

    def __init__(self, world: World, screen: Screen) -> None:
        self.world = world
        self.screen = screen

    async def ask(
        self, path: str, token: str = "", *, method: str = "GET", body: Any = None, as_whom: str = "", show: bool = True
    ) -> Answer:
        """Send a request to the inbound address."""
        trace_id = secrets.token_hex(16)
        headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if show:
            self.screen.sent(f"{method} {path}   {self.screen.paint(as_whom, 'faint')}".rstrip())
        url = self.world.url("inbound") + path
        async with self.world.http.request(method, url, headers=headers, json=body) as response:
            answer = Answer(response.status, response.headers, (await response.text()).strip(), trace_id)
        if show:
            self.show(answer)
        return answer

    def show(self, answer: Answer) -> None:
        """Print an answer: status, who made it, the headers that matter, the body."""
        self.screen.got(f"{answer.status}, made by the {answer.origin}")
        self.screen.more(f"{name}: {answer.fields[name]}" for name in _SHOWN[1:] if name in answer.fields)
        self.screen.more(answer.text.splitlines()[:3])

    async def operate(self, name: str, path: str, *, method: str = "GET") -> tuple[int, str]:
        """Ask the admin API, or an application behind the sidecar's back."""
        async with self.world.http.request(method, self.world.url(name) + path) as response:
            return response.status, await response.text()

    async def metric(self, start: str) -> list[str]:
        """The lines of /metrics that begin so."""
        _, text = await self.operate("admin", "/metrics")
        return [line for line in text.splitlines() if line.startswith(start)]
