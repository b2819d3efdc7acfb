"""The effective configuration as plain data: with secrets masked for people, or whole for its fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from agent.config.errors import Path
from agent.config.suggest import is_secret_name
from agent.telemetry.redaction import MASKED

_MIN_RECOGNISED = 6
"""Shorter secrets are masked at their own place only: elsewhere the same few characters mean something else."""


class _Masked:
    def __init__(self, secrets: Mapping[Path, str]) -> None:
        self._paths = frozenset(secrets)
        self._values = {value for value in secrets.values() if len(value) >= _MIN_RECOGNISED}

    def __call__(self, value: Any, path: Path) -> Any:
        if value is None or isinstance(value, bool):
            return value
        name = next((step for step in reversed(path) if isinstance(step, str)), "")
        if isinstance(value, SecretStr) or path in self._paths or is_secret_name(name):
            return MASKED
        if isinstance(value, str) and (value in self._values or any(secret in value for secret in self._values)):
            return MASKED
        return value


def _whole(value: Any, path: Path) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _plain(value: Any, path: Path, leaf: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        items = {field.alias or name: getattr(value, name) for name, field in fields.items()}
        return {key: _plain(item, (*path, key), leaf) for key, item in items.items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, (*path, str(key)), leaf) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, index), leaf) for index, item in enumerate(value)]
    value = leaf(value, path)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def masked(model: BaseModel, secrets: Mapping[Path, str]) -> dict[str, Any]:
    """Every value with its default, as JSON has it, secrets as ``***``."""
    plain: dict[str, Any] = _plain(model, (), _Masked(secrets))
    return plain


def fingerprint(model: BaseModel) -> str:
    """Twelve hexadecimal digits that change with any value, secrets included, and with nothing else.

    A default that is written out changes nothing, nor do comments, the order of keys, or how a value was brought in.
    """
    text = json.dumps(_plain(model, (), _whole), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
