"""Values of log fields made fit for JSON: secrets masked, everything bounded, nothing that could fail to encode."""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from traceback import walk_tb
from typing import Any

from agent.telemetry.printable import printable

MASKED = "***"
MORE = "…"
"""Stands for what the bounds left out."""
SECRETS: tuple[str, ...] = ("token", "secret", "cookie", "client_secret", "api_key", "password", "authorization")
"""Masked whatever the configuration says."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W_a-zA-Z0-9]+")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@|(?<=\bbearer )\S+|(?<=\bbasic )\S+", re.IGNORECASE)
_WORDS = 16
_DEPTH = 6
_ITEMS = 256
"""Members of one value, over all its levels."""
_CAUSES = 4
_FRAMES = 20


class Redaction:
    """Which keys hide their values. A key is masked where its words contain those of a mask.

    So `token` covers `access_token`, `refreshToken`, `X-Auth-Token` and `tokens`, but not `tokens_verified`.
    """

    __slots__ = ("_masks",)

    def __init__(self, mask: Iterable[str] = ()) -> None:
        self._masks = {_joined(_words(name)) for name in (*SECRETS, *mask)} - {""}

    def hides(self, key: str) -> bool:
        """Whether the value of this key is a secret."""
        words = _words(key)
        ends = range(1, len(words) + 1)
        runs = {_joined(words[start:end]) for end in ends for start in range(end)}
        endings = {_joined(words[start:]).removesuffix("s") for start in range(len(words))}
        return not self._masks.isdisjoint(runs | endings)

    def clean(self, value: Any) -> Any:
        """A copy of the value that JSON can carry: masked, bounded in depth and number, exceptions as a structure."""
        return self._clean(value, 0, [_ITEMS])

    def _clean(self, value: Any, depth: int, left: list[int]) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return _number(value)
        if isinstance(value, str):
            return without_credentials(value)
        if isinstance(value, BaseException):
            return _exception(value)
        if isinstance(value, Mapping):
            return self._mapping(value, depth + 1, left) if depth < _DEPTH else MORE
        if isinstance(value, list | tuple | set | frozenset):
            return self._items(value, depth + 1, left) if depth < _DEPTH else MORE
        return without_credentials(_as_text(value))

    def _mapping(self, value: Mapping[Any, Any], depth: int, left: list[int]) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for key, item in value.items():
            if left[0] == 0:
                cleaned[MORE] = MORE
                break
            left[0] -= 1
            name = printable(_as_text(key))
            cleaned[name] = MASKED if self.hides(name) else self._clean(item, depth, left)
        return cleaned

    def _items(self, value: Iterable[Any], depth: int, left: list[int]) -> list[Any]:
        cleaned: list[Any] = []
        for item in value:
            if left[0] == 0:
                cleaned.append(MORE)
                break
            left[0] -= 1
            cleaned.append(self._clean(item, depth, left))
        return cleaned


def without_credentials(text: str) -> str:
    """The text, printable, without the user and password of URLs and without bearer and basic credentials."""
    return printable(_CREDENTIALS.sub(lambda found: MASKED + "@" * found[0].endswith("@"), text))


def _words(name: str) -> list[str]:
    return _WORD.findall(name[:256])[:_WORDS]


def _joined(words: list[str]) -> str:
    return "".join(words).lower()


def _number(value: float) -> float | str:
    """The number, or its text where JSON has none for it or readers would round it."""
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else str(value)
    return float(value) if value - value == 0 else str(value)


def _as_text(value: Any) -> str:
    try:
        return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes | bytearray) else str(value)
    except Exception:  # noqa: BLE001  a log call must never fail because of what it was to log
        return f"<{type(value).__name__} without text>"


def _exception(error: BaseException, depth: int = 0) -> dict[str, Any]:
    """Type, message and frames (file, line, function), innermost last; then what caused it."""
    frames = deque(walk_tb(error.__traceback__), maxlen=_FRAMES)
    shown: dict[str, Any] = {
        "type": type(error).__qualname__,
        "message": without_credentials(_as_text(error)),
        "frames": [
            {"file": frame.f_code.co_filename, "line": line, "function": frame.f_code.co_qualname}
            for frame, line in frames
        ],
    }
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < _CAUSES:
        shown["cause"] = _exception(cause, depth + 1)
    if isinstance(error, BaseExceptionGroup) and depth < _CAUSES:
        shown["errors"] = [_exception(one, depth + 1) for one in error.exceptions[:_CAUSES]]
    return shown
