"""The fenced blocks of a page, and how each is to be tried.

A block's language says what it is:

- ``console``: lines that begin with ``$ `` are commands (continued after a backslash), the lines after them what they
  print. Commands of a page run one after the other in one shell, and must end with status 0. Expected lines must appear
  in this order, whatever their case, and others may come between; ``…`` stands for any text.
- ``yaml``: a whole configuration, which must load without a finding.
- ``json``: must be JSON.
- ``text``: a picture or a form, with no command in it.

A comment right above a block, ``<!-- test: WORD … -->``, says more:

- ``fragment``: sections that are merged into a small whole configuration before they are loaded.
- ``file NAME``: the configuration is also written to NAME in the page's folder.
- ``kubernetes``, ``prometheus``: YAML of that kind.
- ``access-log``: JSON whose keys the access log really has.
- ``status N``: the last command ends with this status.
- ``eventually``: the last command is repeated for some seconds until it prints what is expected.
- ``elsewhere FILE``: the commands are run by that test.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
KINDS = ("console", "yaml", "json", "text")
_FENCE = re.compile(r"^(\s*)```(.*)$")
_NOTE = re.compile(r"^\s*<!-- test: (.+?) -->\s*$")


class Command(NamedTuple):
    """One command and what it should print."""

    text: str
    expected: tuple[str, ...]


class Block(NamedTuple):
    """One fenced block. `note` is the comment above it, split into words."""

    page: str
    line: int
    kind: str
    note: tuple[str, ...]
    text: str

    @property
    def place(self) -> str:
        """For messages: page and line."""
        return f"{self.page}:{self.line}"

    def has(self, word: str) -> bool:
        """Whether the note begins with this word."""
        return self.note[:1] == (word,)

    @property
    def commands(self) -> list[Command]:
        """Of a console block."""
        found: list[tuple[list[str], list[str]]] = []
        continued = False
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append(([line[2:]], []))
            elif continued:
                found[-1][0].append(line)
            else:
                assert found, f"{self.place}: a console block begins with a command: `$ …`"
                found[-1][1].append(line)
            continued = line.endswith("\\") and not found[-1][1]
        return [Command("\n".join(lines), tuple(filter(None, expected))) for lines, expected in found]


def pages() -> list[Path]:
    """Every page whose blocks are tried."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    blocks: list[Block] = []
    note: tuple[str, ...] = ()
    inside: tuple[int, str, list[str]] | None = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if inside is not None:
            if fence:
                begin, kind, lines = inside
                name = str(page.relative_to(ROOT))
                blocks.append(Block(name, begin, kind, note, "\n".join(lines) + "\n"))
                inside, note = None, ()
            else:
                inside[2].append(line)
        elif fence:
            inside = (number, fence[2].strip(), [])
        elif match := _NOTE.match(line):
            note = tuple(match[1].split())
        elif line.strip():
            note = ()
    assert inside is None, f"{page}: a block isn't closed"
    return blocks


def missing_line(expected: tuple[str, ...], output: str) -> str | None:
    """The first expected line that doesn't come in its turn, None where all do."""
    lines = iter(output.splitlines())
    for wanted in expected:
        if wanted.strip() == "…":
            continue
        pattern = re.compile(".*".join(map(re.escape, wanted.rstrip().split("…"))), re.IGNORECASE)
        if not any(pattern.fullmatch(line.rstrip()) for line in lines):
            return wanted
    return None
