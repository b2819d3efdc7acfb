"""The route table: which route is a request's, at the same cost for ten routes and for thousands."""

from collections.abc import Collection, Iterable
from operator import attrgetter
from typing import Generic, TypeVar

from agent.traffic.match import Conditions, MatchSettings, effective_method
from agent.traffic.templates import Parameter, PathTemplate
from agent.wire.head import RequestHead
from agent.wire.path import AmbiguousPathError, fold, normalise

P = TypeVar("P")

_order = attrgetter("order")

CACHE_ENTRIES = 2048
"""Cleared when full, so that ids in paths can't grow it."""
CACHED_PATH_BYTES = 256
"""Longer paths (and hosts) are looked up anew each time: a stranger could otherwise fill the memory."""


class Route(Generic[P]):
    """One row of the table."""

    __slots__ = ("conditions", "name", "order", "payload", "template")

    def __init__(self, order: int, name: str, template: PathTemplate, conditions: Conditions, payload: P) -> None:
        self.order = order
        self.name = name
        self.template = template
        self.conditions = conditions
        self.payload = payload


class _Node(Generic[P]):
    """One segment's place in the tree of templates."""

    __slots__ = ("any", "ends", "literals", "rests")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Node[P]] = {}
        self.any: _Node[P] | None = None
        self.ends: list[Route[P]] = []
        self.rests: list[Route[P]] = []

    def child(self, segment: bytes | Parameter) -> "_Node[P]":
        if isinstance(segment, bytes):
            return self.literals.setdefault(segment, _Node())
        if self.any is None:
            self.any = _Node()
        return self.any


class RouteTable(Generic[P]):
    """Routes in order, first match wins. Built once per configuration, never changed."""

    __slots__ = ("_cache", "_preflights", "_root", "routes")

    def __init__(
        self, routes: Iterable[tuple[str, MatchSettings, P]], *, preflights: Collection[str] = frozenset()
    ) -> None:
        """`preflights` names the routes that answer CORS preflights: those match by the method that is asked for."""
        self.routes: tuple[Route[P], ...] = tuple(
            Route(
                order,
                name,
                PathTemplate(settings.path),
                Conditions(settings, answers_preflights=name in preflights),
                payload,
            )
            for order, (name, settings, payload) in enumerate(routes)
        )
        self._preflights = bool(preflights)
        self._root: _Node[P] = _Node()
        self._cache: dict[tuple[bytes, bytes, bytes], tuple[Route[P], ...]] = {}
        for route in self.routes:
            node = self._root
            for segment in route.template.segments:
                node = node.child(segment)
            (node.rests if route.template.rest else node.ends).append(route)

    def match(self, head: RequestHead) -> P | None:
        """The payload of the first route that matches, or None.

        Raises AmbiguousPathError where servers that ignore ``;`` parameters, or that read another one of several values
        of a query parameter, would be led to another route.
        """
        method = head.method
        if self._preflights and method == b"OPTIONS":
            method = effective_method(head)
        key = (method, head.host, head.path)
        candidates = self._cache.get(key)
        if candidates is None:
            candidates = self._look_up(key)
        for route in candidates:
            if route.conditions.is_plain or not route.conditions.fields_differ(head):
                return route.payload
        return None

    def _look_up(self, key: tuple[bytes, bytes, bytes]) -> "tuple[Route[P], ...]":
        method, host, path = key
        found = self._candidates(method, host, path)
        if b";" in path and found != self._candidates(method, host, _without_parameters(path)):
            raise AmbiguousPathError("The path's ';' parameter would lead to another route on servers that ignore it.")
        if len(path) <= CACHED_PATH_BYTES >= len(host):
            if len(self._cache) >= CACHE_ENTRIES:
                self._cache.clear()
            self._cache[key] = found
        return found

    def _candidates(self, method: bytes, host: bytes, path: bytes) -> "tuple[Route[P], ...]":
        """Routes whose path, host and method match, in order, up to the first that asks for nothing else."""
        kept: list[Route[P]] = []
        for route in sorted(self._by_path(path), key=_order):
            conditions = route.conditions
            if conditions.has_host and conditions.host_differs(host):
                continue
            if conditions.method_differs(method):
                continue
            kept.append(route)
            if conditions.is_plain:
                break
        return tuple(kept)

    def _by_path(self, path: bytes) -> "list[Route[P]]":
        if path == b"*":
            return self._root.rests
        nodes = [self._root]
        found: list[Route[P]] = []
        for segment in fold(path)[1:].split(b"/"):
            below: list[_Node[P]] = []
            for node in nodes:
                if node.rests:
                    found += node.rests
                child = node.literals.get(segment)
                if child is not None:
                    below.append(child)
                if node.any is not None and segment:
                    below.append(node.any)
            nodes = below
        for node in nodes:
            found += node.ends
            found += node.rests
        return found

    def explain(self, head: RequestHead) -> list[tuple[str, bool, str]]:
        """For each route its name, whether it is the request's, and why not. Changes nothing."""
        method = effective_method(head) if self._preflights else head.method
        chosen = ""
        rows: list[tuple[str, bool, str]] = []
        for route in self.routes:
            why = self._differs(route, method, head)
            if not why and chosen:
                why = f"would match, but route {chosen!r} comes first"
            elif not why:
                chosen = route.name
            rows.append((route.name, not why, why))
        return rows

    @staticmethod
    def _differs(route: "Route[P]", method: bytes, head: RequestHead) -> str:
        template, conditions = route.template, route.conditions
        if head.path == b"*":
            fits = template.rest and not template.segments
        else:
            fits = template.matches(fold(head.path)[1:].split(b"/"))
        if not fits:
            return f"path {head.path.decode('latin-1')!r} doesn't match {template.text!r}"
        try:
            fields = conditions.fields_differ(head)
        except AmbiguousPathError as error:
            fields = str(error)
        return conditions.host_differs(head.host) or conditions.method_differs(method) or fields


def _without_parameters(path: bytes) -> bytes:
    """The path as those read it who drop ``;`` parameters before they match."""
    return normalise(b"/".join(segment.partition(b";")[0] for segment in path.split(b"/")))
