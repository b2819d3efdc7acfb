"""Checks of who may call: issuers that can be told apart, and rules that somebody can fulfil."""

from collections.abc import Iterator

from agent.config.errors import Fault, Path
from agent.config.names import Names, no_such
from agent.config.root import Config
from agent.config.route import AuthSettings, RouteSettings
from agent.identity.settings import IssuerSettings
from agent.wire.request_key import OF_CALLERS


def check_callers(config: Config, names: Names) -> Iterator[Fault]:
    """Issuers among each other, and what each route asks of its callers."""
    yield from _same_issuer(config)
    for index, route in enumerate(config.routes):
        path: Path = ("routes", index)
        if isinstance(route.auth, AuthSettings):
            yield from _auth(route.auth, (*path, "auth"), names)
            yield from _roles(route, path, config, names)
        yield from _keys(route, path, config, names)


def _same_issuer(config: Config) -> Iterator[Fault]:
    first: dict[str, str] = {}
    for name, issuer in config.issuers.items():
        other = first.setdefault(issuer.issuer, name)
        if other != name:
            message = f"issuers {other} and {name} are both {issuer.issuer}: no token says which of them is meant"
            yield Fault(("issuers", name, "issuer"), message, "Make one of them: it may have several audiences.")


def _auth(auth: AuthSettings, path: Path, names: Names) -> Iterator[Fault]:
    if not names.issuers:
        message = "asks for a token, but no issuers are configured: nobody could pass"
        yield Fault(path, message, "Add the section `issuers`, or write `auth: none`.", at_key=True)
        return
    for index, name in enumerate(auth.issuers):
        if name not in names.issuers:
            yield Fault((*path, "issuers", index), *no_such("issuer", name, names.issuers))
    if auth.optional and auth.asks and auth.mode == "enforce":
        message = "optional does nothing here: roles and scopes refuse whoever has no token"
        yield Fault((*path, "optional"), message, "Remove `optional`, or the roles and scopes.")


def _chosen(route: RouteSettings, config: Config, names: Names) -> list[IssuerSettings] | None:
    """The issuers whose tokens the route accepts; None where one of them can't be judged, since it is wrong itself."""
    auth = route.auth
    chosen = auth.issuers if isinstance(auth, AuthSettings) and auth.issuers else names.issuers
    if any(name not in config.issuers for name in chosen):
        return None
    return [config.issuers[name] for name in chosen]


def _roles(route: RouteSettings, path: Path, config: Config, names: Names) -> Iterator[Fault]:
    """Roles that no token can bring: whoever wrote them believes that somebody gets in, or is kept out."""
    chosen, auth = _chosen(route, config, names), route.auth
    assert isinstance(auth, AuthSettings)
    roles = auth.roles
    if not chosen or (roles.any is roles.all is roles.none is None) or any(issuer.roles_from for issuer in chosen):
        return
    is_closed = roles.any is not None or roles.all is not None
    message = f"no token brings roles, since no issuer here has roles_from: {'nobody' if is_closed else 'everybody'} "
    message += "could pass"
    remedy = "Say which claim holds them, for example `roles_from: [realm_access.roles]` in `issuers`."
    is_error = is_closed and "shadow" not in (auth.mode, route.mode)
    yield Fault((*path, "auth", "roles"), message, remedy, "error" if is_error else "warning", at_key=True)


def _keys(route: RouteSettings, path: Path, config: Config, names: Names) -> Iterator[Fault]:
    """Parts of limits' keys that no request has: the address is counted in their place."""
    chosen = _chosen(route, config, names)
    for index, limit in enumerate(route.rate_limits):
        where: Path = (*path, "rate_limits", index, "key")
        about = [part for part in limit.key if part.partition(":")[0] in OF_CALLERS]
        if not about or "key" not in limit.model_fields_set:
            continue
        if route.auth in ("none", "deny") or not names.issuers:
            why = f"`auth` is {route.auth}" if names.issuers else "no issuers are configured"
            message = f"{', '.join(about)} is known of nobody here, since {why}: addresses are counted instead"
            yield Fault(where, message, "Use key: [ip].", "warning")
        elif "tenant" in about and chosen and all(issuer.tenant_from is None for issuer in chosen):
            message = "tenant is known of nobody here, since no issuer has tenant_from: addresses are counted instead"
            yield Fault(where, message, "Name the claim in tenant_from of the issuer.", "warning")
