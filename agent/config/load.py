"""From a YAML file to a checked configuration, or to one error that has all that is wrong with it."""

import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from agent.config.checks import check, names_of
from agent.config.document import MAX_BYTES, Document, read_document
from agent.config.errors import ConfigError, Fault, Finding, Severity
from agent.config.expand import Expander
from agent.config.prune import Pruned, cuts, is_related
from agent.config.root import Config, Origin
from agent.config.translate import faults_of

_ROUNDS = 12
"""Taking wrong parts out may leave their surroundings incomplete; the nesting of models bounds how often."""


def load(file: str | FilePath, *, environ: Mapping[str, str] | None = None, again: bool = False) -> Config:
    """Read, expand and check the configuration in `file`. `environ` defaults to the process's environment.

    `again`: what was a pipe before has been read to its end, and another one would be waited for, perhaps for ever.
    Raises ConfigError with every finding, each with its place.
    """
    path = FilePath(file)
    if again and path.is_fifo():
        raise _unreadable(path, "it is a pipe, which can be read only once", "Put a regular file there.")
    return loads(_read(path), file=str(file), directory=path.parent, environ=environ)


def loads(
    text: str, *, file: str = "<text>", directory: FilePath | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """As `load`, from text. Relative names in `${file:…}` start from `directory`, by default the working directory."""
    document = read_document(text, file)
    if not isinstance(document.data, dict):
        document.faults.append(Fault((), "the file must hold a mapping (`app: …`), not a list or a single value"))
        document.data = {}
    if document.faults and not document.data:
        raise _error(document)
    _drop_extensions(document)
    expander = Expander(document, os.environ if environ is None else environ, directory or FilePath())
    expander.expand()
    config = _judged(document, expander)
    findings = _findings(document)
    if config is None or any(finding.severity == "error" for finding in findings):
        raise ConfigError(file, findings)
    sources = (FilePath(file), *expander.files) if directory is not None else tuple(expander.files)
    return config.with_origin(Origin(file, tuple(findings), dict(document.secrets), sources))


def _judged(document: Document, expander: Expander) -> Config | None:
    """The configuration without the parts that are wrong; what is wrong is added to the document's faults."""
    pruned = Pruned(document.data)
    pruned.remove(expander.failed)
    config: Config | None = None
    for round_number in range(_ROUNDS):
        try:
            config = Config.model_validate(pruned.data)
            break
        except ValidationError as error:
            faults = faults_of(error, pruned.data, Config)
            if round_number == 0:
                document.faults += [_moved(fault, pruned) for fault in faults if _is_news(fault, expander)]
            parts = [pruned.original(path) for path in cuts(faults, pruned.data)]
            if not parts:
                return None
            pruned.remove(parts)
    if config is not None:
        known = [fault.path for fault in document.faults if fault.severity == "error" and fault.path]
        for fault in check(config, names_of(document.data)):
            moved = _moved(fault, pruned)
            if fault.severity == "warning" and pruned.removed:
                continue  # a doubt about half of a configuration is no help
            if pruned.may_explain(moved.path):
                continue
            if not pruned.touches(moved.path) and not any(is_related(moved.path, path) for path in known):
                document.faults.append(moved)
    return config


def _is_news(fault: Fault, expander: Expander) -> bool:
    """Not merely that a value is missing whose reference couldn't be resolved, which is said already."""
    return not any(path[: len(fault.path)] == fault.path for path in expander.failed)


def _moved(fault: Fault, pruned: Pruned) -> Fault:
    return fault._replace(path=pruned.original(fault.path))


def _drop_extensions(document: Document) -> None:
    """Top-level keys that begin with `x-` are the user's own: a place for anchors."""
    data: dict[str, Any] = document.data
    document.data = {key: value for key, value in data.items() if not key.startswith("x-")}


def _findings(document: Document) -> list[Finding]:
    found = {document.locate(fault): None for fault in document.faults}
    return sorted(found, key=lambda finding: (finding.line, finding.column))


def _error(document: Document) -> ConfigError:
    return ConfigError(document.file, _findings(document))


def _read(path: FilePath) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        remedy = "Name the file with -c FILE or OUTRIGGER_CONFIG; config/minimal.yaml is a start."
        raise _unreadable(path, "there is no such file", remedy) from None
    except OSError as error:
        raise _unreadable(
            path, f"it can't be read: {error.strerror}", "Is it a file, and may this user read it?"
        ) from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _unreadable(path, "it is not UTF-8 text", "Save it as UTF-8.", line=line) from None


def _unreadable(path: FilePath, message: str, remedy: str, *, line: int = 0) -> ConfigError:
    severity: Severity = "error"
    return ConfigError(str(path), [Finding("", line, min(line, 1), "", message, remedy, severity)])
