"""The tables of a configuration without a running sidecar: for `outrigger explain` and `outrigger check`."""

from agent.assembly.data_path import DataPath
from agent.assembly.tables import Tables
from agent.config.root import Config
from agent.proxy.context import Context
from agent.proxy.surface import InboundSurface
from agent.telemetry.access_log import AccessLog
from agent.telemetry.metrics import Registry


def offline_tables(config: Config) -> tuple[InboundSurface, Tables]:
    """Compile `config`. Raises ConfigError, KeySetError or ValueError where that can't be done."""
    registry = Registry()
    context = Context(config.limits, registry, AccessLog(1, registry), report=_ignore)
    path = DataPath(context, tls=config.listen.inbound.tls is not None, warn=_ignore_warning)
    path.prepare(config)
    assert path.generation is not None
    return path.inbound, path.generation.tables


def _ignore(where: str, error: BaseException) -> None:
    """Nothing runs, so nothing fails."""


def _ignore_warning(sentence: str) -> None:
    """Nothing is looked up, so nothing is warned of."""
