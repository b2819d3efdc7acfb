"""What the writer probably meant, and what was given: the small words inside findings."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from agent.config.errors import Path, shown
from agent.telemetry.redaction import MASKED

SECRET_WORDS = (
    "secret", "password", "passwd", "token", "credential", "private_key", "api_key", "apikey", "authorization",
    "cookie",
)  # fmt: skip
"""A value under a key with one of these words in it is never shown."""

_NOT_SECRET = ("token_url", "token_header", "token_param", "tokens", "max_token", "token_bytes", "token_bucket")


def is_secret_name(name: str) -> bool:
    """Whether a key's name alone says that its value is to be hidden. `token_file` names a file, not a secret."""
    lower = name.lower().replace("-", "_")
    if lower.endswith(("_file", "_url", "_s", "_bytes", "_header", "_from", "_path")):
        return False
    return any(word in lower for word in SECRET_WORDS) and not any(word in lower for word in _NOT_SECRET)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``Did you mean `rate_limits`?`` or ``""``: the nearest known word, if one is near."""
    by_fold = {name.lower().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), by_fold, n=1, cutoff=0.6)
    return f"Did you mean `{by_fold[near[0]]}`?" if near else ""


def listed(names: Iterable[str], *, limit: int = 16) -> str:
    """``a, b, c``, cut after `limit` names."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def at(data: Any, path: Path) -> Any:
    """The value at `path`, None where nothing is."""
    for step in path:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            return None
    return data


def given(data: Any, path: Path, secrets: Mapping[Path, str]) -> str:
    """The value at `path` as a message shows it: masked where it is or may be secret, `""` where nothing is."""
    value = at(data, path)
    if value is None:
        return ""
    if path in secrets or any(isinstance(step, str) and is_secret_name(step) for step in path):
        return MASKED if not isinstance(value, dict | list) else shown(value)
    return shown(value)
