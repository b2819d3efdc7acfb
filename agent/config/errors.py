"""What is wrong with a configuration, where, and what would be right: findings and the error that carries them."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from agent.core.errors import OutriggerError
from agent.telemetry.redaction import without_credentials

Path = tuple[str | int, ...]
"""Keys and list positions from the root down, as in ``("routes", 2, "timeout_s")``."""

Severity = Literal["error", "warning"]

Paint = Callable[[str, str], str]
"""Called as `paint(text, role)`; the role is ``error``, ``warning``, ``place`` or ``remedy``."""


class Fault(NamedTuple):
    """A finding that doesn't know its place in the file yet: what checks return."""

    path: Path
    message: str
    remedy: str = ""
    severity: Severity = "error"
    at_key: bool = False
    """Point at the key rather than at its value: the key itself is what is wrong."""


class Finding(NamedTuple):
    """One thing that is wrong or doubtful."""

    path: str
    """Dotted, as in ``routes[2].rate_limits[0].per_s``; ``""`` for the whole file."""
    line: int
    """From 1; 0 where there is no place in the file to point at."""
    column: int
    """From 1."""
    value: str
    """What was given, shortened, ``***`` where it is secret, ``""`` where nothing was given."""
    message: str
    """What is wrong and what is allowed."""
    remedy: str = ""
    """What to do about it; ``""`` where the message says it all."""
    severity: Severity = "error"


class ConfigError(OutriggerError):
    """A configuration that can't be used. `findings` has all of it, warnings too, in file order."""

    def __init__(self, file: str, findings: Sequence[Finding], files: Sequence[str] = ()) -> None:
        """`files` are all that were read, where that is known: a change of any may mend it."""
        super().__init__(file, findings)
        self.files = tuple(files)
        self.file = file
        self.findings = tuple(sorted(findings, key=lambda finding: (finding.line, finding.column)))

    def __str__(self) -> str:
        return render(self.file, self.findings)


def dotted(path: Path) -> str:
    """The path as people write it: ``routes[2].timeout_s``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if step and not set(step) & set('.[]" ') else f'"{step}"'
            text += f".{name}" if text else name
    return text


def _plain(text: str, role: str) -> str:
    return text


def render(file: str, findings: Sequence[Finding], paint: Paint = _plain) -> str:
    """All findings as text: one line each that editors and `grep` understand, then the remedy, then the sum."""
    lines = []
    for finding in findings:
        place = f"{file}:{finding.line}:{finding.column}:" if finding.line else f"{file}:"
        subject = f" {finding.path}:" if finding.path else ""
        given = f" (given: {finding.value})" if finding.value else ""
        severity = paint(finding.severity, finding.severity)
        lines.append(f"{paint(place, 'place')} {severity}:{subject} {finding.message}{given}")
        if finding.remedy:
            lines.append(f"    {paint(finding.remedy, 'remedy')}")
    lines.append(f"{file}: {summary(findings)}")
    return "\n".join(lines)


def summary(findings: Sequence[Finding]) -> str:
    """Counts in words: ``2 errors, 1 warning``."""
    counts = []
    for severity in ("error", "warning"):
        number = sum(finding.severity == severity for finding in findings)
        if number:
            counts.append(f"{number} {severity}{'s' if number > 1 else ''}")
    return ", ".join(counts) or "nothing to complain about"


def shown(value: Any) -> str:
    """A value as it stands in a message: one line, at most 80 characters, containers only by their kind."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f'"{without_credentials(value)}"' if isinstance(value, str) else str(value)
    text = text.replace("\n", "\\n").replace("\r", "\\r")
    return text if len(text) <= 80 else f"{text[:76]} …"
