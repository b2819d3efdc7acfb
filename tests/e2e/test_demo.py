"""`make demo` as a newcomer runs it: it shows what it should, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "examples.demo"]
STEPS = [
    "Allowed",
    "401",
    "403",
    "429",
    "explanation",
    "Shadow",
    "Retries",
    "Circuit breaker",
    "Deadline",
    "Streaming",
    "WebSocket",
    "Outbound",
    "Gateway",
    "restarts",
    "Reload",
    "operators",
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo puts its temporary files. Not pytest's: what is left there must be the demo's fault alone."""
    with tempfile.TemporaryDirectory(prefix="e2e-") as name:
        yield Path(name)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder)}


def processes_of(folder: Path) -> list[str]:
    """Command lines of all processes that still have this folder in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={folder}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or isn't ours to look at
            continue
    return found


def test_once_shows_everything_and_leaves_nothing_behind(folder: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--once"], cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "FAILED" not in done.stdout
    titles = re.findall(r"^ *\d+ (.+)$", done.stdout, re.MULTILINE)
    for word in STEPS:
        assert any(word in title for title in titles), f"no step about {word}: {titles}"
    assert "\x1b[" not in done.stdout, "colours are for terminals"
    assert re.search(r"All \d+ checks of 16 steps are ok\.", done.stdout)
    assert list(folder.iterdir()) == []
    assert processes_of(folder) == []


def test_it_stays_up_until_ctrl_c(folder: Path) -> None:
    with subprocess.Popen(DEMO, cwd=ROOT, env=environment(folder), stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if line.startswith("The configuration is"):
                break
        commands = [line.strip() for line in lines if line.startswith(("   curl", "   source"))]
        assert len(commands) == 4, "".join(lines)
        source, *curls = commands
        answers = [shell(f"{source} && {curl}") for curl in curls]
        assert "200 OK" in answers[0]
        assert "401 Unauthorized" in answers[1]
        assert "outrigger_refusals_total" in answers[2]
        assert len(processes_of(folder)) >= 5, "the demo, the sidecar, orders, an inventory, the issuer"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
    assert list(folder.iterdir()) == []
    assert processes_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_half_way_ends_everything_too(folder: Path, number: signal.Signals) -> None:
    with subprocess.Popen([*DEMO, "--once"], cwd=ROOT, env=environment(folder), stdout=subprocess.PIPE, text=True) as d:
        assert d.stdout is not None
        for line in d.stdout:
            if "403" in line:
                break
        d.send_signal(number)
        assert d.wait(30) == 130
    assert list(folder.iterdir()) == []
    assert processes_of(folder) == []


def test_what_is_shown_wrongly_is_said_and_told_by_the_exit_status(folder: Path) -> None:
    """A sidecar whose limit is off by one: the demo must notice."""
    program = (
        "import sys, examples.demo.world as world\n"
        "from pathlib import Path\n"
        "copy = world.shutil.copyfile\n"
        "def spoil(source, target):\n"
        "    copy(source, target)\n"
        "    Path(target).write_text(Path(target).read_text().replace('limit: 5,', 'limit: 6,'))\n"
        "world.shutil.copyfile = spoil\n"
        "import examples.demo.__main__ as demo\n"
        "demo.STEPS = demo.STEPS[:4]\n"
        "sys.argv = ['demo', '--once']\n"
        "sys.exit(demo.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(folder), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED 429, rate_limited" in done.stdout
    assert "checks FAILED:" in done.stdout


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("make demo", "python -m examples.demo"),
        ("make demo ONCE=1", "python -m examples.demo --once"),
        ("make test", "python -m pytest"),
    ],
)
def test_the_two_commands_run_what_is_tested_here(command: str, runs: str) -> None:
    done = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=20)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert any(line.endswith(runs) for line in lines), done.stdout + done.stderr


def test_the_application_is_thin() -> None:
    """Its own code is under 100 lines, and nothing in it does the sidecar's work."""
    text = (ROOT / "examples" / "apps" / "orders" / "__main__.py").read_text()
    assert len(text.splitlines()) < 100
    for word in ("jwt", "authorization", "bearer", "retry", "limit", "traceparent", "sleep_until", "agent."):
        assert word not in text.lower(), word


def shell(command: str) -> str:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
