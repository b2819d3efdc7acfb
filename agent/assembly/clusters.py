"""Upstreams and the application: settings to clusters, kept over a reload where their definition is the same."""

import random
import ssl
from collections.abc import Callable
from typing import NamedTuple

from agent.config.application import AppSettings
from agent.config.errors import ConfigError, Finding
from agent.config.names import APP
from agent.core.address import Address, parse_address
from agent.proxy.cluster import Cluster, Target
from agent.proxy.context import Context
from agent.proxy.hold import Hold
from agent.proxy.pool import Pool
from agent.proxy.resolver import Resolver
from agent.proxy.tls import TLS_VERSIONS
from agent.traffic.balance import balancer
from agent.traffic.outlier import OutlierDetection
from agent.traffic.sticky import sticky_key
from agent.traffic.upstream_settings import UpstreamSettings, UpstreamTlsSettings


class Live(NamedTuple):
    """A cluster and what keeps it up to date."""

    definition: str
    """The settings it was made of: equal ones keep the cluster, its connections and statistics."""
    cluster: Cluster
    resolver: Resolver


def upstream_definition(settings: UpstreamSettings) -> str:
    """What has to be equal for an upstream to keep its connections and statistics over a reload."""
    return settings.model_dump_json(
        include={"targets", "balance", "sticky_by", "outlier", "dns_refresh_s", "pool", "tls"}
    )


def app_definition(settings: AppSettings) -> str:
    """The same for the application."""
    return settings.model_dump_json(include={"url", "hold", "pool", "tls"})


def upstream_cluster(name: str, settings: UpstreamSettings, context: Context, warn: Callable[[str], None]) -> Live:
    """The cluster of one upstream. Raises ConfigError where its TLS files can't be used."""
    server_name = settings.tls.server_name if settings.tls is not None else None
    addresses = [parse_address(target) for target in settings.targets]
    tls = None
    if settings.tls is not None or any(address.is_tls for address in addresses):  # the system's authorities take 20 ms
        tls = client_tls(f"upstreams.{name}.tls", settings.tls or UpstreamTlsSettings())
    key = sticky_key(settings.sticky_by) if settings.sticky_by is not None else None
    cluster = Cluster(
        name,
        "upstream",
        context.registry,
        balancer=balancer(settings.balance, random.Random(), key),  # noqa: S311  balancing is no secret
        outlier=OutlierDetection(settings.outlier, ()),
    )

    def make(address: Address, named: Address) -> Target:
        pool = Pool(
            context,
            address,
            settings.pool,
            tls=tls if address.is_tls else None,
            server_name=server_name or named.host,
            authority=named.authority,
        )
        return Target(address, pool, cluster)

    return _live(cluster, addresses, make, settings.dns_refresh_s, upstream_definition(settings), warn)


def app_cluster(settings: AppSettings, context: Context, warn: Callable[[str], None]) -> Live:
    """The application's cluster: one target, and requests are held while it restarts."""
    address = parse_address(settings.url)
    hold = settings.hold
    cluster = Cluster(APP, "app", context.registry)
    its_tls = settings.tls or UpstreamTlsSettings()
    tls = client_tls("app.tls", its_tls) if address.is_tls else None

    def make(address: Address, named: Address) -> Target:
        waiting = Hold(hold.max_requests, hold.max_wait_s) if hold.max_requests else None
        server_name = its_tls.server_name or named.host
        pool = Pool(context, address, settings.pool, tls=tls, server_name=server_name, hold=waiting)
        return Target(address, pool, cluster)

    # One application is one target, whatever its name resolves to: connecting looks the name up.
    return _live(cluster, [address], make, 30.0, app_definition(settings), warn, follows_dns=False)


def _live(  # noqa: PLR0913  one private place for what both kinds share
    cluster: Cluster,
    addresses: list[Address],
    make: Callable[[Address, Address], Target],
    refresh_s: float,
    definition: str,
    warn: Callable[[str], None],
    *,
    follows_dns: bool = True,
) -> Live:
    cluster.use([make(address, address) for address in addresses])
    return Live(definition, cluster, Resolver(cluster, addresses if follows_dns else [], make, refresh_s, warn))


def client_tls(path: str, settings: UpstreamTlsSettings) -> ssl.SSLContext:
    """How we speak TLS as the settings at `path` say. Raises ConfigError that names the file."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        context.minimum_version = TLS_VERSIONS[settings.min_version]
        context.set_alpn_protocols(["http/1.1"])
        if settings.client_cert_file is not None:
            context.load_cert_chain(settings.client_cert_file, settings.client_key_file, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(map(str, settings.files))
        message = f"the TLS files can't be used: {error}"
        raise ConfigError("", [Finding(path, 0, 0, files, message, "Give readable PEM files.", "error")]) from None
    if not settings.verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
