"""The names that a file defines: what other sections may refer to."""

from typing import NamedTuple

from agent.config.suggest import did_you_mean, listed

APP = "app"
"""Names the application wherever an upstream may be named."""


class Names(NamedTuple):
    """Names of issuers and upstreams, and whether there is an application."""

    issuers: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()
    has_app: bool = True

    @property
    def destinations(self) -> tuple[str, ...]:
        """What a route may lead to."""
        return (*self.upstreams, APP) if self.has_app else self.upstreams


def no_such(kind: str, name: str, known: tuple[str, ...]) -> tuple[str, str]:
    """Message and remedy for a name that nothing has."""
    there_are = f"There are: {listed(known)}." if known else f"The section `{kind}s` is empty."
    return f"no {kind} has this name", f"{did_you_mean(name, known)} {there_are}".strip()
