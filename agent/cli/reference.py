"""`python -m agent.cli.reference`: write the reference pages that are made from the code."""

import sys
from pathlib import Path

from agent.config.reference import PAGES

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def stale_pages(folder: Path = FOLDER) -> list[str]:
    """Names of the pages whose files differ from what the code says."""
    return [name for name, page in PAGES.items() if not _is_current(folder / name, page())]


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main() -> int:
    """Write every page that changed, and say which."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale_pages():
        (FOLDER / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote {FOLDER / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
