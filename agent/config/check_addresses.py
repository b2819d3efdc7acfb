"""Checks of addresses: where surfaces listen, and that the sidecar doesn't call itself."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from agent.config.errors import Fault, Path
from agent.config.names import APP, Names
from agent.config.root import Config
from agent.core.address import Address, parse_address
from agent.proxy.settings import SurfaceSettings

_RESERVED = {APP: "it means the application", "localhost": "the application calls the outbound proxy by it"}


def check_addresses(config: Config, names: Names) -> Iterator[Fault]:
    """Surfaces, the application, upstreams, trusted networks."""
    if not names.has_app and not names.upstreams:
        remedy = 'Write `app: {url: "http://127.0.0.1:8000"}`, or upstreams and routes that lead to them.'
        yield Fault(
            ("app",), "there is nothing to forward to: neither an application nor upstreams", remedy, at_key=True
        )
    surfaces = _surfaces(config, names)
    yield from _clashes(surfaces)
    yield from _exposed(config, names)
    if config.app is not None:
        yield from _loop(("app", "url"), config.app.url, surfaces)
    for name, upstream in config.upstreams.items():
        for index, target in enumerate(upstream.targets):
            yield from _loop(("upstreams", name, "targets", index), target, surfaces)
    yield from _upstream_names(names)
    yield from _upstream_hosts(config)
    for index, network in enumerate(config.trusted_proxies):
        if ip_network(network, strict=False).prefixlen == 0:
            message = "everyone is trusted: any client can choose the address that it seems to come from"
            yield Fault(("trusted_proxies", index), message, "Name the proxies' networks.", "warning")


def _surfaces(config: Config, names: Names) -> dict[str, SurfaceSettings]:
    listen = config.listen
    surfaces: dict[str, SurfaceSettings] = {"inbound": listen.inbound, "local": listen.local, "admin": listen.admin}
    if names.upstreams:
        surfaces["outbound"] = listen.outbound
    return surfaces


def _clashes(surfaces: dict[str, SurfaceSettings]) -> Iterator[Fault]:
    earlier: list[tuple[str, SurfaceSettings]] = []
    for name, surface in surfaces.items():
        for other_name, other in earlier:
            if _is_same(surface, other):
                key = "unix" if surface.unix is not None else "port"
                message = f"listen.{other_name} is on {other.place} already"
                yield Fault(("listen", name, key), message, "Each surface needs an address of its own.")
        earlier.append((name, surface))


def _is_same(one: SurfaceSettings, other: SurfaceSettings) -> bool:
    if one.unix is not None or other.unix is not None:
        return one.unix == other.unix
    return one.port == other.port != 0 and (one.host == other.host or _is_any(one.host) or _is_any(other.host))


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104  compared, not bound


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _exposed(config: Config, names: Names) -> Iterator[Fault]:
    local, admin, outbound = config.listen.local, config.listen.admin, config.listen.outbound
    if names.upstreams and outbound.unix is None and not _is_local(outbound.host):
        message = "the outbound proxy can be reached from other machines: whoever does may use the upstreams, unasked"
        yield Fault(("listen", "outbound", "host"), message, "Keep it on 127.0.0.1.", "warning")
    if local.unix is None and not _is_local(local.host):
        message = "the local API can be reached from other machines, and it asks for no token"
        yield Fault(("listen", "local", "host"), message, "Keep it on 127.0.0.1.", "warning")
    if admin.unix is None and not _is_local(admin.host) and config.admin.token is None:
        message = "operators' endpoints, drain among them, can be reached from other machines without a token"
        yield Fault(("listen", "admin", "host"), message, "Set admin.token, or keep it on 127.0.0.1.", "warning")


def _loop(path: Path, text: str, surfaces: dict[str, SurfaceSettings]) -> Iterator[Fault]:
    address = parse_address(text)
    for name, surface in surfaces.items():
        if _leads_to(address, surface):
            message = f"this is where listen.{name} listens: the sidecar would call itself"
            yield Fault(path, message, "Write the address of what is to be called.")


def _leads_to(address: Address, surface: SurfaceSettings) -> bool:
    if address.scheme == "unix" or surface.unix is not None:
        return address.scheme == "unix" and address.path == surface.unix
    if address.port != surface.port:
        return False
    return address.host == surface.host or (
        _is_local(address.host) and (_is_any(surface.host) or _is_local(surface.host))
    )


def _upstream_names(names: Names) -> Iterator[Fault]:
    lower: dict[str, str] = {}
    for name in names.upstreams:
        path = ("upstreams", name)
        if name.lower() in _RESERVED:
            message = f"no upstream can have this name: {_RESERVED[name.lower()]}"
            yield Fault(path, message, "Choose another.", at_key=True)
        elif name.lower() in lower:
            message = f"differs from `{lower[name.lower()]}` only in case, but host names don't"
            yield Fault(path, message, "Choose another.", at_key=True)
        lower.setdefault(name.lower(), name)


def _upstream_hosts(config: Config) -> Iterator[Fault]:
    """Names by which the application addresses upstreams: each may lead to one only."""
    owners = {name.lower(): name for name, upstream in config.upstreams.items() if not upstream.hosts}
    for name, upstream in config.upstreams.items():
        for index, host in enumerate(upstream.hosts):
            path = ("upstreams", name, "hosts", index)
            if host in _RESERVED:
                yield Fault(path, f"no upstream can have this name: {_RESERVED[host]}", "Choose another.")
            elif owners.get(host, name) != name:
                yield Fault(path, f"upstream `{owners[host]}` is addressed by this name already", "Choose another.")
            owners.setdefault(host, name)
