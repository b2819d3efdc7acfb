"""Which routes can never be reached, because an earlier one takes all that they match."""

from agent.traffic.match import MatchSettings
from agent.traffic.templates import Parameter, PathTemplate


class _Node:
    __slots__ = ("any", "ends", "literals", "rests")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Node] = {}
        self.any: _Node | None = None
        self.ends: list[tuple[str, MatchSettings]] = []
        self.rests: list[tuple[str, MatchSettings]] = []


class Coverage:
    """Routes so far, by path: looking for a cover costs the same for ten and for thousands of routes."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, name: str, match: MatchSettings) -> str:
        """Add the next route. Returns the name of an earlier one that covers it, ``""`` if none does."""
        template = PathTemplate(match.path)
        cover = next((other for other, earlier in self._wider(template) if _covers(earlier, match)), "")
        node = self._root
        for segment in template.segments:
            if isinstance(segment, bytes):
                node = node.literals.setdefault(segment, _Node())
            else:
                node.any = node.any or _Node()
                node = node.any
        (node.rests if template.rest else node.ends).append((name, match))
        return cover

    def _wider(self, template: PathTemplate) -> list[tuple[str, MatchSettings]]:
        """Earlier routes whose paths include all of the template's."""
        nodes = [self._root]
        found: list[tuple[str, MatchSettings]] = []
        for segment in template.segments:
            below: list[_Node] = []
            for node in nodes:
                found += node.rests
                if isinstance(segment, bytes) and segment in node.literals:
                    below.append(node.literals[segment])
                if node.any is not None and (isinstance(segment, Parameter) or segment):
                    below.append(node.any)
            nodes = below
        for node in nodes:
            found += node.rests
            if not template.rest:
                found += node.ends
        return found


def _covers(one: MatchSettings, other: MatchSettings) -> bool:
    """Whether `one` matches whatever `other` matches, paths aside."""
    return (
        _covers_host(one.host, other.host)
        and _covers_methods(one.methods, other.methods)
        and _covers_values(one.headers, other.headers)
        and _covers_values(one.query, other.query)
    )


def _covers_host(one: str, other: str) -> bool:
    if one in ("", other):
        return True
    return one.startswith("*.") and other.endswith(one[1:]) and len(other) > len(one) - 1


def _covers_methods(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if not one:
        return True
    known = {*one, "HEAD"} if "GET" in one else set(one)
    return bool(other) and known.issuperset(other)


def _covers_values(one: dict[str, str], other: dict[str, str]) -> bool:
    return all(name in other and wanted in ("*", other[name]) for name, wanted in one.items())
