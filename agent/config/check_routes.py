"""Checks of routes among each other, and of what they refer to."""

from collections.abc import Iterable, Iterator

from agent.config.coverage import Coverage
from agent.config.errors import Fault, Path
from agent.config.names import APP, Names, no_such
from agent.config.root import Config
from agent.config.route import RouteSettings
from agent.config.suggest import did_you_mean
from agent.policies.rate_limit import Settings as RateLimitSettings
from agent.wire.h1_request import METHODS
from agent.wire.rewrite import Rewrite


def check_routes(config: Config, names: Names) -> Iterator[Fault]:
    """Names, methods, destinations and limits of every route."""
    yield from _repeated(((("routes", i, "name"), route.name) for i, route in enumerate(config.routes)), "route")
    yield from _covered(config.routes)
    for index, route in enumerate(config.routes):
        path: Path = ("routes", index)
        yield from _destination(route, path, names)
        yield from _methods(route, path)
        yield from _limits(route, path)
        yield from _claims(route, path, config)
        try:
            Rewrite(route.rewrite, route.match.path)
        except ValueError as error:
            yield Fault((*path, "rewrite", "path"), str(error))


def _claims(route: RouteSettings, path: Path, config: Config) -> Iterator[Fault]:
    """A header that tells the application who is calling has one source: the token."""
    owned = {name.replace("_", "-"): issuer for issuer, one in config.issuers.items() for name in one.claim_headers}
    rewrite = route.rewrite
    for key in ("set_headers", "add_headers", "remove_headers"):
        for name in getattr(rewrite, key):
            issuer = owned.get(name.lower().replace("_", "-"))
            if issuer is not None:
                message = f"`{name}` is written from the tokens of issuer `{issuer}` (claim_headers)"
                yield Fault((*path, "rewrite", key), message, "Choose another name: the application would get both.")


def _repeated(pairs: Iterable[tuple[Path, str]], kind: str) -> Iterator[Fault]:
    first: dict[str, Path] = {}
    for path, name in pairs:
        if name in first:
            yield Fault(
                path, f"another {kind} has this name already", "Names tell metrics and logs apart: choose another."
            )
        first.setdefault(name, path)


def _covered(routes: tuple[RouteSettings, ...]) -> Iterator[Fault]:
    coverage = Coverage()
    for index, route in enumerate(routes):
        cover = coverage.add(route.name, route.match)
        if cover:
            message = f"never reached: route `{cover}` comes first and matches everything that this one matches"
            yield Fault(("routes", index), message, "Move it up, or remove it.", "warning", at_key=True)


def _destination(route: RouteSettings, path: Path, names: Names) -> Iterator[Fault]:
    named: list[tuple[Path, str]] = []
    if route.upstream is not None:
        named.append(((*path, "upstream"), route.upstream))
    named += [((*path, "split", i, "upstream"), part.upstream) for i, part in enumerate(route.split)]
    if route.mirror is not None:
        named.append(((*path, "mirror"), route.mirror))
    for where, name in named:
        if name == APP and not names.has_app:
            yield Fault(where, "there is no application to lead to", "Configure `app`, or name an upstream.")
        elif name not in names.destinations:
            yield Fault(where, *no_such("upstream", name, names.destinations))
    if route.upstream is not None and route.split:
        yield Fault((*path, "split"), "upstream and split exclude each other", "Keep one of them.", at_key=True)
    if route.upstream is None and not route.split and not names.has_app:
        remedy = "Name an `upstream`, or configure `app`."
        yield Fault((*path, "upstream"), "the route leads nowhere: there is no application", remedy, at_key=True)
    if route.mirror is not None and route.mirror == (route.upstream or APP) and not route.split:
        yield Fault(
            (*path, "mirror"), "the mirror is the route's own destination: it gets everything twice", "", "warning"
        )
    if route.split:
        yield from _split(route, path)
    elif route.sticky_by is not None:
        yield Fault((*path, "sticky_by"), "sticky_by does nothing without `split`", "Remove it, or add a split.")


def _split(route: RouteSettings, path: Path) -> Iterator[Fault]:
    if not any(part.weight for part in route.split):
        yield Fault((*path, "split"), "all weights are 0: nothing would be chosen", "Give one a weight.", at_key=True)
    seen: set[str] = set()
    for index, part in enumerate(route.split):
        if part.upstream in seen:
            where = (*path, "split", index, "upstream")
            yield Fault(where, "this upstream is in the split already", "Add up its weights.")
        seen.add(part.upstream)


def _methods(route: RouteSettings, path: Path) -> Iterator[Fault]:
    for index, method in enumerate(route.match.methods):
        if method.encode() in METHODS:
            continue
        message = "requests with this method are never forwarded: it is none that is registered with IANA"
        if method in ("CONNECT", "TRACE"):
            message = "requests with this method are never forwarded"
        remedy = did_you_mean(method, map(bytes.decode, METHODS)) or "Remove it: the route never gets such a request."
        yield Fault((*path, "match", "methods", index), message, remedy)


def _limits(route: RouteSettings, path: Path) -> Iterator[Fault]:
    limits = route.rate_limits
    yield from _repeated((((*path, "rate_limits", i, "name"), limit.name) for i, limit in enumerate(limits)), "limit")
    for index, limit in enumerate(limits):
        stricter = next((other for other in limits if _is_stricter(other, limit)), None)
        if stricter is not None:
            message = f"never reached: `{stricter.name}` counts the same and allows no more in no less time"
            yield Fault((*path, "rate_limits", index), message, "Remove the weaker one.", "warning", at_key=True)


def _is_stricter(one: RateLimitSettings, other: RateLimitSettings) -> bool:
    is_comparable = one.key == other.key and one.cost == other.cost and one.burst == other.burst
    if one is other or not is_comparable or one.algorithm != other.algorithm or one.mode != other.mode:
        return False
    if (one.limit, one.per_s) == (other.limit, other.per_s):
        return False
    return one.limit <= other.limit and one.per_s >= other.per_s
