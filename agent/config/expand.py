"""`${NAME}`, `${NAME:-default}` and `${file:/path}` inside values: after YAML was read, so a secret can't inject any.

`$$` is one dollar sign; a dollar sign before anything but `{` and `$` stays as it is. A whole value that contains
`${file:…}`, or a variable whose name says that it is secret, is remembered as secret.
"""

import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from agent.config.document import Document
from agent.config.errors import Fault, Path
from agent.config.suggest import did_you_mean, is_secret_name

MAX_SECRET_BYTES = 1024 * 1024

_REFERENCE = re.compile(r"\$\$|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _ReferenceError(Exception):
    """One reference that can't be resolved. Its arguments are what is wrong and the remedy."""


class Expander:
    """Replaces references in one document's values. `files` collects what was read, so that it can be watched."""

    def __init__(self, document: Document, environ: Mapping[str, str], directory: FilePath) -> None:
        self._document = document
        self._environ = environ
        self._directory = directory
        self.files: list[FilePath] = []
        self.failed: set[Path] = set()
        """Values that couldn't be resolved: nothing else is worth saying about them."""

    def expand(self) -> None:
        """Expand all values of the document in place; what can't be resolved becomes faults."""
        self._document.data = self._walk(self._document.data, ())

    def _walk(self, data: Any, path: Path) -> Any:
        if isinstance(data, str):
            return self._scalar(data, path) if "$" in data else data
        if isinstance(data, list):
            return [self._walk(item, (*path, index)) for index, item in enumerate(data)]
        if isinstance(data, dict):
            for key in data:
                if "${" in key:
                    remedy = "Write the key out; only values may contain references."
                    self._document.faults.append(Fault((*path, key), "keys aren't expanded", remedy, at_key=True))
            return {key: self._walk(value, (*path, key)) for key, value in data.items()}
        return data

    def _scalar(self, text: str, path: Path) -> str:
        is_secret = False

        def replace(match: re.Match[str]) -> str:
            nonlocal is_secret
            if match[0] == "$$":
                return "$"
            if match[1] is None:
                raise _ReferenceError("`${` without its `}`", "Close the reference, or write `$$` for a dollar sign.")
            value, hidden = self._resolve(match[1])
            is_secret = is_secret or hidden
            return value

        try:
            value = _REFERENCE.sub(replace, text)
        except _ReferenceError as error:
            message, remedy = error.args
            self._document.faults.append(Fault(path, message, remedy))
            self.failed.add(path)
            return text
        if is_secret:
            self._document.secrets[path] = value
        return value

    def _resolve(self, reference: str) -> tuple[str, bool]:
        """The value of what stands between the braces, and whether it is secret."""
        kind, colon, rest = reference.partition(":")
        if kind == "file" and colon:
            return self._read(rest), True
        name, has_default, default = reference.partition(":-")
        if not _NAME.fullmatch(name):
            raise _ReferenceError(
                f"`${{{reference}}}` is no reference",
                "Write ${NAME}, ${NAME:-default} or ${file:/path}; `$$` is a plain dollar sign.",
            )
        value = self._environ.get(name, "")
        if value or (name in self._environ and not has_default):
            return value, is_secret_name(name)
        if has_default:
            return default, False
        guess = did_you_mean(name, self._environ)
        raise _ReferenceError(
            f"the environment variable {name} is not set",
            f"{guess or 'Set it'}, or give a default: ${{{name}:-…}}.".replace("?,", "? Otherwise set it,"),
        )

    def _read(self, name: str) -> str:
        path = self._directory / name.strip()
        try:
            if path.is_fifo():
                raise ValueError("it is a pipe, whose other end may never write")
            with path.open("rb") as file:
                content = file.read(MAX_SECRET_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise _ReferenceError(
                f"the file {path} of `${{file:{name}}}` can't be read: {reason}",
                "Check that it is mounted and that this user may read it.",
            ) from None
        if len(content) > MAX_SECRET_BYTES:
            raise _ReferenceError(f"the file {path} is larger than {MAX_SECRET_BYTES // 1024} KiB", "Is it a secret?")
        self.files.append(path)
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise _ReferenceError(f"the file {path} is not UTF-8 text", "Binary secrets need an encoding.") from None
        if text.endswith("\r\n"):
            return text[:-2]
        return text.removesuffix("\n")
