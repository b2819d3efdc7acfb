"""The tables of a configuration without a running sidecar: for explanations, and to prove that it can be used."""

from agent.assembly.data_path import DataPath
from agent.config.errors import ConfigError, Finding
from agent.config.root import Config
from agent.core.errors import OutriggerError
from agent.identity.keystore import FetchedKeys
from agent.proxy.context import Context
from agent.proxy.tls import ServerTls
from agent.telemetry.access_log import AccessLog
from agent.telemetry.metrics import Registry


def offline_path(config: Config) -> DataPath:
    """Compile `config`. Raises ConfigError, KeySetError or ValueError where that can't be done."""
    registry = Registry()
    context = Context(config.limits, registry, AccessLog(1, registry), report=_ignore)
    is_tls, share = config.listen.inbound.tls is not None, 1 / config.workers
    path = DataPath(context, tls=is_tls, share=share, warn=_ignore_warning)
    path.prepare(config)
    return path


async def read_key_files(path: DataPath) -> None:
    """Read the keys that stand in files, once. What only a call would bring stays unknown."""
    assert path.generation is not None
    for issuer in path.generation.issuers.values():
        if issuer.settings.jwks.file is not None and isinstance(issuer.keys, FetchedKeys):
            await issuer.keys.refresh()


def prove(config: Config) -> Config:
    """The same configuration, if it can be brought to life: its certificates, keys and limits are tried.

    Raises ConfigError with a finding. Begins nothing and needs no loop.
    """
    try:
        offline_path(config)
        if config.listen.inbound.tls is not None:
            ServerTls(config.listen.inbound.tls)
    except ConfigError as error:
        raise ConfigError(config.file, error.findings, config.files) from None
    except (OutriggerError, ValueError) as error:
        finding = Finding("", 0, 0, "", str(error), "", "error")
        raise ConfigError(config.file, [finding], config.files) from error
    return config


def _ignore(where: str, error: BaseException) -> None:
    """Nothing runs, so nothing fails."""


def _ignore_warning(sentence: str) -> None:
    """Nothing is looked up, so nothing is warned of."""
