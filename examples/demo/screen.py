"""What the demo prints, and the count of what it didn't see."""

import sys
from collections.abc import Iterable
from typing import TextIO

from agent.cli.terminal import is_colourful

_WIDTH = 116
_CODES = {"title": "1", "sent": "36", "got": "33", "faint": "2", "ok": "32", "failed": "31;1"}


class Screen:
    """Prints steps: what is sent, what comes, and whether it is what should come."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._colourful = is_colourful(stream)
        self.steps = 0
        self.checks = 0
        self.failures: list[str] = []
        self._title = ""

    def paint(self, text: str, role: str) -> str:
        """`text` in the colour of its role, where the terminal shows any."""
        return f"\x1b[{_CODES[role]}m{text}\x1b[0m" if self._colourful else text

    def line(self, text: str = "") -> None:
        """Print a line now: people watch."""
        print(text, file=self._stream, flush=True)

    def step(self, title: str, why: str = "") -> None:
        """Begin a step."""
        self.steps += 1
        self._title = title
        self.line()
        self.line(f"{self.paint(f'{self.steps:2} {title}', 'title')}")
        if why:
            self.line(f"   {self.paint(why, 'faint')}")

    def sent(self, text: str) -> None:
        """What was sent."""
        self.line(f"   {self.paint('→', 'sent')} {text}")

    def got(self, text: str) -> None:
        """What came."""
        first, *others = (short(line) for line in text.splitlines() or [""])
        self.line(f"   {self.paint('←', 'got')} {first}")
        self.more(others)

    def more(self, lines: Iterable[str]) -> None:
        """Further lines of what came."""
        for text in lines:
            self.line(f"     {short(text)}")

    def check(self, good: bool, sentence: str, seen: object = None) -> None:
        """Say whether what came is what should come; `seen` helps where it isn't."""
        self.checks += 1
        if good:
            self.line(f"   {self.paint('ok', 'ok')} {sentence}")
            return
        self.failures.append(f"{self._title}: {sentence}")
        self.line(f"   {self.paint('FAILED', 'failed')} {sentence}{f' (seen: {seen!r})' if seen is not None else ''}")

    def broken(self, error: BaseException) -> None:
        """A step ended before its checks were done."""
        self.check(good=False, sentence=f"the step ended with {type(error).__name__}: {error}")

    def summary(self) -> bool:
        """Print the sum; whether everything showed what it should."""
        self.line()
        if not self.failures:
            self.line(self.paint(f"All {self.checks} checks of {self.steps} steps are ok.", "ok"))
            return True
        self.line(self.paint(f"{len(self.failures)} of {self.checks} checks FAILED:", "failed"))
        for failure in self.failures:
            self.line(f"   {failure}")
        return False


def short(text: str) -> str:
    """At most a terminal's width of it."""
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
