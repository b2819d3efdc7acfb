"""The reference pages say what the code says."""

import re

import pytest

from agent.cli.reference import FOLDER, stale_pages
from agent.config.reference import COMMAND, PAGES, codes_page, configuration_page
from agent.wire.codes import TABLE


@pytest.mark.parametrize("name", PAGES)
def test_reference_page_is_current(name: str) -> None:
    assert name not in stale_pages(), f"docs/reference/{name} is out of date: run `{COMMAND}` and commit it"


def test_pages_are_where_readers_look() -> None:
    assert {path.name for path in FOLDER.glob("*.md")} >= set(PAGES)


def test_every_code_is_on_its_page() -> None:
    page = codes_page()
    assert [row.code for row in TABLE if f"| `{row.code}` |" not in page] == []


def test_no_key_lacks_its_meaning_and_no_link_leads_nowhere() -> None:
    page = configuration_page()
    assert re.findall(r"^\| `[a-z_]+` \|[^|]*\|[^|]*\|\s*\|$", page, re.MULTILINE) == []
    headings = {
        re.sub(r"[^a-z0-9_-]", "", line.lstrip("# ").lower().replace(" ", "-"))
        for line in page.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) - headings == set()
