"""What is shipped: the wheel, installed as its users do (`pip wheel …`, `pip install …`), and the image's recipe.

There may be no container engine here for `docker build` and `docker run`: the recipe's steps are tried where they can
be, and the rest of it is read.
"""

import json
import os
import re
import signal
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "Dockerfile").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().split()


def steps() -> list[tuple[str, str]]:
    """Instruction and arguments, continued lines joined and comments left out."""
    lines = [line for line in RECIPE.splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line]


def last(instruction: str) -> str:
    return [arguments for name, arguments in steps() if name == instruction][-1]


def test_the_bases_are_pinned() -> None:
    bases = [arguments.split()[0] for name, arguments in steps() if name == "FROM"]
    assert bases == ["python:3.11-slim-bookworm"] * 2


def test_it_runs_as_nobody_in_particular() -> None:
    assert last("USER") == "65532:65532"
    names = [name for name, _ in steps()]
    assert names.index("USER") > names.index("COPY", names.index("FROM", 1)), (
        "files are root's, so it can't change them"
    )


def test_the_command_is_there() -> None:
    assert json.loads(last("ENTRYPOINT")) == ["outrigger"]
    assert json.loads(last("CMD")) == ["run"]
    environment = last("ENV")
    assert "OUTRIGGER_CONFIG=/etc/outrigger/outrigger.yaml" in environment
    assert "PYTHONDONTWRITEBYTECODE=1" in environment


def test_no_secret_and_nothing_needless_gets_in() -> None:
    assert "*" in IGNORED, "all is left out but what is named"
    copied = {word for name, arguments in steps() if name == "COPY" for word in arguments.split()[:-1]}
    allowed = {pattern[1:] for pattern in IGNORED if pattern.startswith("!")}
    assert copied - {"--from=build", "/opt/outrigger"} <= allowed
    assert not re.search(r"(?i)password|secret|private|token", RECIPE)
    assert not re.search(r"\bADD\b|curl|wget|apt", RECIPE)


def test_every_file_that_is_copied_exists() -> None:
    for pattern in IGNORED:
        if pattern.startswith("!"):
            assert (ROOT / pattern[1:]).exists(), pattern


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As docs/operating.md says: `pip wheel --no-deps -w dist .`."""
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it depends on, and no development tools: its folder.

    The dependencies are those of this environment, linked in one by one: no network, and nothing that isn't declared.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    python = str(folder / "bin" / "python")
    # `--python`, as a prefix alone would let pip take this environment's own installation for the one to replace.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=60)
    link_dependencies(site)
    return folder


def link_dependencies(site: Path) -> None:
    (described,) = site.glob("outrigger-*.dist-info")
    waiting = needs_of(Distribution.at(described))
    known: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in known:
            known.add(name)
            found = distribution(name)
            waiting += needs_of(found)
            for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
                if not (site / top).exists():
                    (site / top).symlink_to(str(found.locate_file(top)))


def needs_of(found: Distribution) -> list[str]:
    """Names of what it needs here, extras left out."""
    needs = [Requirement(text) for text in found.requires or []]
    return [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"agent", f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert "agent/__main__.py" in names
    assert any(name.endswith("entry_points.txt") for name in names)
    assert any("LICENSE" in name for name in names)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(folder / "bin" / "outrigger"), *arguments], capture_output=True, text=True, timeout=30, cwd=folder
    )


def test_it_says_its_version(installed: Path) -> None:
    done = run(installed, "version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("outrigger 0.")


def test_nothing_of_the_development_tools_is_needed(installed: Path) -> None:
    done = run(installed, "check", "-c", str(ROOT / "config" / "full.yaml"))
    assert done.returncode == 0, done.stderr
    tried = subprocess.run(
        [str(installed / "bin" / "python"), "-c", "import aiohttp"], capture_output=True, text=True, cwd=installed
    )
    assert "ModuleNotFoundError" in tried.stderr, "the environment is meant to be without it"


def test_it_starts_with_a_read_only_file_system_and_ends(installed: Path, tmp_path: Path) -> None:
    """As the image runs it: compiled beforehand, nothing written, the health check's own program."""
    compiled = ["-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    assert " ".join(compiled[1:]) in RECIPE
    (site,) = installed.glob("lib/python*/site-packages")
    subprocess.run([sys.executable, *compiled, str(site / "agent")], check=True, timeout=60)
    before = snapshot(installed)
    config = tmp_path / "minimal.yaml"
    minimal = (ROOT / "config" / "minimal.yaml").read_text()
    config.write_text(minimal + "listen: {inbound: {port: 0}, local: {port: 0}, admin: {port: 0}}\n")
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OUTRIGGER_CONFIG": str(config)}
    with subprocess.Popen(
        [str(installed / "bin" / "outrigger"), "run"], stdout=subprocess.PIPE, text=True, cwd="/", env=environment
    ) as process:
        assert process.stdout is not None
        admin = next(json.loads(line)["admin"] for line in process.stdout if '"listening"' in line)
        check = json.loads(re.search(r"CMD (\[\"python.*\])", RECIPE)[1])  # type: ignore[index]
        check[0] = str(installed / "bin" / "python")
        healthy = subprocess.run(check, env={**environment, "OUTRIGGER_LIVEZ": f"http://{admin}/livez"}, timeout=20)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        gone = subprocess.run(
            check, env={**environment, "OUTRIGGER_LIVEZ": f"http://{admin}/livez"}, timeout=20, stderr=subprocess.PIPE
        )
    assert healthy.returncode == 0
    assert gone.returncode != 0, "the health check must be able to fail"
    assert snapshot(installed) == before, "it has written something"


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
