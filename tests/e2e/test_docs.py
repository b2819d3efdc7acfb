"""Everything that the documentation tells people to type is typed here. See `doc_blocks` for the conventions."""

import asyncio
import json
import re
import socket
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config.load import loads
from agent.runtime.settings import LifecycleSettings
from agent.telemetry.access_log import FIELDS
from agent.wire.codes import TABLE
from examples.demo.world import World
from tests.e2e.doc_blocks import KINDS, ROOT, Block, Command, blocks_of, missing_line, pages
from tests.e2e.page_shell import PageShell, page_shell

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
NAMES = [page.name for page in PAGES]
MINIMAL = """
app: {url: "http://127.0.0.1:8000"}
issuers: {main: {issuer: "https://sso.example/realms/shop", audiences: [orders], roles_from: [roles]}}
upstreams: {inventory: {targets: ["http://127.0.0.1:9101"]}, search: {targets: ["http://127.0.0.1:9102"]}}
"""
PORTS = ("8000", "8080", "4500", "4501", "4502", "9100")
LISTEN = {"inbound": {"host": "127.0.0.1", "port": 8080}, "local": {"port": 4500}, "admin": {"port": 4501}}
METRIC = re.compile(r"(?<![/\w])(?:outrigger|http_server)_[a-z_]+\b(?!\.py)")


def of_kind(*kinds: str) -> list[Any]:
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.kind in kinds]


def test_there_is_something_to_try() -> None:
    assert {block.page for block in BLOCKS} >= {"README.md", "docs/operating.md", "docs/security.md"}


@pytest.mark.parametrize("block", of_kind(*{block.kind for block in BLOCKS}))
def test_every_block_has_a_known_kind(block: Block) -> None:
    assert block.kind in KINDS, f"{block.place}: ```{block.kind} is none of {KINDS}"
    if block.kind == "text":
        assert not re.search(r"^\s*[$#] ", block.text, re.MULTILINE), f"{block.place}: commands belong into ```console"


@pytest.mark.parametrize("block", of_kind("yaml"))
def test_yaml(block: Block) -> None:
    if block.has("kubernetes"):
        for document in yaml.safe_load_all(block.text):
            assert {"apiVersion", "kind"} <= set(document)
            check_grace(document)
        return
    if block.has("prometheus"):
        rules = [rule for group in yaml.safe_load(block.text)["groups"] for rule in group["rules"]]
        assert all({"alert", "expr"} <= set(rule) for rule in rules)
        return
    text = block.text
    if block.has("fragment"):
        text = yaml.safe_dump(yaml.safe_load(MINIMAL) | yaml.safe_load(re.sub(r"\bon:", "'on':", text)))
    assert loads(text, file=block.place, environ={}).warnings == ()


def check_grace(document: dict[str, Any]) -> None:
    """A pod must be given more time than the sidecar takes to drain."""
    spec = document.get("spec", {})
    pod = spec.get("template", {}).get("spec", spec)
    if "containers" in pod:
        drain_s = LifecycleSettings().drain_s
        assert pod["terminationGracePeriodSeconds"] > drain_s


@pytest.mark.parametrize("block", of_kind("json"))
def test_json(block: Block) -> None:
    data = json.loads(block.text)
    if block.has("access-log"):
        names = {field.name for field in FIELDS} | {"level", "service"}
        assert set(data) <= names, f"{block.place}: the access log has no {set(data) - names}"


def test_metrics_in_the_documentation_exist() -> None:
    """Every name that looks like a metric of ours, anywhere on a page."""
    sources = "".join(path.read_text() for path in (ROOT / "agent").rglob("*.py"))
    declared = set(re.findall(r'"((?:outrigger|http_server)_[a-z_]+)"', sources))
    for page in PAGES:
        for name in METRIC.findall(page.read_text()):
            family = re.sub(r"_(bucket|count|sum)$", "", name)
            assert family in declared or name in declared, f"{page.name}: there is no metric {name}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
async def test_commands(page: Path) -> None:
    blocks = [block for block in blocks_of(page) if block.kind == "console" or block.has("file")]
    here = [block for block in blocks if not block.has("elsewhere")]
    for block in blocks:
        if block.has("elsewhere"):
            check_elsewhere(block)
    if not here:
        return
    demo = "<!-- test: page demo -->" in page.read_text()  # noqa: ASYNC240  a small file, and nobody waits
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        folder = Path(name)
        for linked in ("config", "examples", "docs", "agent"):
            (folder / linked).symlink_to(ROOT / linked)
        (folder / ".venv").symlink_to(sys.prefix)
        async with AsyncExitStack() as stack:
            environment = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "NO_COLOR": "1"}
            environment["NO_PROXY"] = "127.0.0.1"
            if demo:
                world = await stack.enter_async_context(World())
                environment |= world.environment | {"TOKEN": world.token_file.read_text()}
                environment["TOKEN_FILE"] = str(world.token_file)
            shell = await stack.enter_async_context(page_shell(folder, environment))
            ports = free_ports()
            for block in here:
                if block.kind == "yaml":
                    write_file(folder, block, ports)
                else:
                    await run_block(shell, block, ports)


def check_elsewhere(block: Block) -> None:
    """The named test must at least mention what each command is about."""
    test = (ROOT / block.note[1]).read_text()
    for command in block.commands:
        assert " ".join(command.text.split()[:2]) in test, f"{block.place}: {block.note[1]} doesn't run {command.text}"


async def run_block(shell: PageShell, block: Block, ports: dict[str, str]) -> None:
    commands = block.commands
    for command in commands:
        is_last = command is commands[-1]
        status = int(block.note[1]) if block.has("status") and is_last else 0
        until_s = 8.0 if block.has("eventually") and is_last else 0.0
        await run_command(shell, block, moved(command, ports), status, until_s)


async def run_command(shell: PageShell, block: Block, command: Command, status: int, until_s: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + until_s
    while True:
        code, output = await shell.run(command.text)
        missing = missing_line(command.expected, output)
        if (code == status and missing is None) or loop.time() >= end:
            break
        await asyncio.sleep(0.1)
    assert code == status, f"{block.place}: `{command.text}` ended with {code}:\n{output}"
    assert missing is None, f"{block.place}: `{command.text}` doesn't print `{missing}` (in its turn):\n{output}"


def moved(command: Command, ports: dict[str, str]) -> Command:
    """The same with free ports in place of the default ones."""
    return Command(move(command.text, ports), tuple(move(line, ports) for line in command.expected))


def move(text: str, ports: dict[str, str]) -> str:
    return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda match: ports[match[1]], text)


def write_file(folder: Path, block: Block, ports: dict[str, str]) -> None:
    listen = yaml.safe_dump({"listen": LISTEN}, default_flow_style=True)
    text = block.text if "listen:" in block.text else f"{block.text}{listen.strip()[1:-1]}\n"
    (folder / block.note[1]).write_text(move(text, ports))


def free_ports() -> dict[str, str]:
    sockets = [socket.socket() for _ in PORTS]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    numbers = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return dict(zip(PORTS, numbers, strict=True))


def test_every_code_has_its_first_aid() -> None:
    rows = re.findall(
        r"^\| (`[^|]+) \|", (ROOT / "docs" / "operating.md").read_text().split("## First aid")[1], re.MULTILINE
    )
    helped = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    assert {row.code for row in TABLE} == helped


def test_every_field_of_the_access_log_is_explained() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    assert [field.name for field in FIELDS if f"`{field.name}`" not in text] == []


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs" / "decisions").glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_proof_of_the_threat_model_exists() -> None:
    proofs = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "threat-model.md").read_text())
    assert len(proofs) > 25
    missing = [
        f"{file}::{name}"
        for file, name in proofs
        if not (ROOT / file).exists() or f"def {name}(" not in (ROOT / file).read_text()
    ]
    assert missing == []
