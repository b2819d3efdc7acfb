"""Which Python runs Outrigger: the fastest of the machine, as the image ships one that was built for speed.

Interpreters of one version differ by a third in what a request costs: official images and Debian use profile-guided
optimisation, version managers don't unless they are told to. The bench measures the proxy and not the way in which a
developer's Python was built, so it takes the fastest and says which one.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bench.install import InstallError

ROOT = Path(__file__).resolve().parents[1]
_WORTH_IT = 0.95
"""Another interpreter has to need less than this part of the running one's time: else nothing is installed."""

_LOOP = """
import sys, time
assert sys.version_info >= (3, 11)
class A:
    __slots__ = ("a", "b")
    def m(self, x):
        self.b = x
        return self.a
def work():
    a, d = A(), {b"x": 1}
    a.a = b"abc"
    for i in range(300):
        a.m(i)
        d.get(a.a)
        b"%d: %b" % (i, a.a)
best = 9.0
for _ in range(40):
    began = time.perf_counter()
    work()
    best = min(best, time.perf_counter() - began)
print(best)
"""


def candidates() -> list[Path]:
    """The running interpreter first, then those that the system has, each once."""
    names = ["/usr/bin/python3.13", "/usr/bin/python3.12", "/usr/bin/python3.11", "/usr/local/bin/python3"]
    found = [Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name, *map(Path, names)]
    return list(dict.fromkeys(path.resolve() for path in found if path.exists()))


def time_of(interpreter: Path) -> float:
    """Seconds for a loop of what a request is made of; infinity where the interpreter is too old or broken."""
    done = subprocess.run([str(interpreter), "-c", _LOOP], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else float("inf")


def choose(times: Iterable[tuple[Path, float]]) -> Path:
    """The first, unless another one is clearly faster."""
    first, *others = times
    fastest = min(others, key=lambda pair: pair[1], default=first)
    return fastest[0] if fastest[1] < first[1] * _WORTH_IT else first[0]


def environment_of(interpreter: Path, cache: Path) -> Path:
    """The folder of an environment for `interpreter`."""
    return cache / f"python-{str(interpreter).strip('/').replace('/', '-')}"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:]}")


def prepare(cache: Path) -> Path:
    """The interpreter to run Outrigger with: that of an environment in which this checkout is installed.

    Makes that environment on first use. Raises InstallError where that fails.
    """
    listed = candidates()
    # In turn and the best of four each: what else the machine does must not choose.
    rounds = [[time_of(path) for path in listed] for _ in range(4)]
    best = choose(zip(listed, map(min, zip(*rounds, strict=True)), strict=True))
    if best == listed[0]:
        return Path(sys.executable)
    environment = environment_of(best, cache)
    ready = environment / "ready"
    pins = ROOT / "requirements-dev.txt"
    if not ready.exists() or ready.stat().st_mtime < pins.stat().st_mtime:
        print(f"making an environment for {best}, the fastest Python of this machine …", flush=True)
        shutil.rmtree(environment, ignore_errors=True)
        # Debian splits pip off venv: the running pip installs into it from outside.
        _run([str(best), "-m", "venv", "--without-pip", str(environment)])
        pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--quiet"]
        _run([*pip, "--disable-pip-version-check", "-c", str(pins), "-e", str(ROOT)])
        ready.touch()
    return environment / "bin" / "python"
