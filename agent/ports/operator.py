"""What operators and the application may ask of the running sidecar, whether it is one process or many."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from agent.telemetry.printable import rfc3339
from agent.telemetry.snapshot import Snapshot


def moment(wall_s: float | None) -> str | None:
    """Seconds since the Unix epoch as people read them (RFC 3339, UTC), None where there is no such moment."""
    return rfc3339(int(wall_s * 1000)) if wall_s else None


class Component(NamedTuple):
    """One part that can fail on its own: the application, a worker, a key set, a broker."""

    name: str
    ready: bool
    required: bool = True
    """Whether the sidecar is unready without it."""
    state: str = ""
    """A word or two for people: ``healthy``, ``unreachable``, ``3 of 4 running``."""
    since: float = 0.0
    """Seconds since the Unix epoch at which `state` began; 0 where that isn't known."""
    error: str = ""
    """What went wrong last, ``""`` where nothing did."""

    def described(self) -> dict[str, object]:
        """As JSON says it, its name apart."""
        return {
            "ready": self.ready,
            "required": self.required,
            "state": self.state,
            "since": moment(self.since),
            "last_error": self.error or None,
        }


class LifecycleReport(NamedTuple):
    """Where the process is between start and end."""

    phase: str
    """``starting``, ``running``, ``deregistering``, ``draining``, ``app_grace`` or ``stopped``."""
    since: float
    """Seconds since the Unix epoch at which the phase began."""
    deadline: float | None
    """Seconds since the Unix epoch at which everything ends, None where no end has been asked for."""
    in_flight: int = 0
    """Exchanges that aren't finished."""
    connections: int = 0


class ReloadReport(NamedTuple):
    """How the last attempt to load the configuration went."""

    result: str
    """``applied``, ``unchanged`` or ``refused``."""
    at: float
    """Seconds since the Unix epoch."""
    error: str = ""
    warnings: tuple[str, ...] = ()
    """What was changed in the file but needs a restart."""


class ConfigReport(NamedTuple):
    """The configuration in force."""

    source: str
    """The file it came from."""
    fingerprint: str
    effective: Mapping[str, Any]
    """Every value with its default, as JSON; secrets masked."""
    listening: Mapping[str, str]
    """The address that each surface is bound to, with the port that was picked."""
    last_reload: ReloadReport | None = None
    warnings: Sequence[Mapping[str, Any]] = ()
    """What is doubtful in it, as `outrigger check` reports it."""


class Question(NamedTuple):
    """A described request: what would happen to it, and why?"""

    method: str = "GET"
    url: str = "/"
    """Path and query, or a whole URL whose host is matched."""
    headers: Mapping[str, str] = {}
    client_ip: str = "127.0.0.1"
    token: str = ""
    """Short for `Authorization: Bearer …`."""


class LocalView(Protocol):
    """What the application may know."""

    async def components(self) -> Sequence[Component]:
        """Every component's true state. One named ``app`` is the application itself."""
        ...

    async def capabilities(self) -> Mapping[str, Any]:
        """By block: what it guarantees natively, emulates or refuses."""
        ...


class SidecarView(LocalView, Protocol):
    """What operators may know and do. The admin endpoints are this, over HTTP."""

    def lifecycle(self) -> LifecycleReport:
        """Where the process is between start and end."""
        ...

    async def snapshot(self) -> Snapshot:
        """All metrics, over all workers that answer in time."""
        ...

    def config(self) -> ConfigReport:
        """The configuration in force, secrets masked."""
        ...

    def log_level(self) -> str:
        """The level in force, in lower case."""
        ...

    async def set_log_level(self, level: str) -> None:
        """Change it everywhere until the next restart. Raises ValueError naming the levels there are."""
        ...

    async def drain(self, *, stop: bool) -> None:
        """Switch readiness off and go on serving; with `stop`, end as SIGTERM would."""
        ...

    async def undrain(self) -> None:
        """Switch readiness on again. Raises ValueError where the end has been asked for already."""
        ...

    async def explain(self, question: Question) -> Mapping[str, Any]:
        """Route, policies, verdicts and why, as JSON; nothing is changed.

        Raises ValueError for a senseless question.
        """
        ...
