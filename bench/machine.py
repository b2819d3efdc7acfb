"""What the numbers were measured on, for the report."""

import os
import platform
import re
import subprocess
from pathlib import Path

from bench import peers


def cpu_model(cpuinfo: str) -> str:
    """The processor's name from /proc/cpuinfo."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def first_version(text: str) -> str:
    """The first thing in `text` that looks like a version; the whole text where nothing does."""
    found = re.search(r"\d+\.\d+(?:\.\d+)?", text)
    return found.group(0) if found else text.strip()


def _say(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        return "not installed"
    return (done.stdout + done.stderr).strip()


def commit() -> str:
    """The checkout's commit, with a mark where there are changes on top of it."""
    root = str(Path(__file__).parents[1])
    short = _say("git", "-C", root, "rev-parse", "--short=12", "HEAD")
    changed = _say("git", "-C", root, "status", "--porcelain", "--untracked-files=no", "--", "agent")
    return f"{short}{' with changes' if changed else ''}"


def describe(cache: Path, python: Path) -> dict[str, str]:
    """Processor, kernel, what else was running (load average), and the version of everything."""
    return {
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": first_version(_say(str(python), "--version")),
        "outrigger": first_version(_say(str(python), "-m", "agent", "version")),
        "envoy": first_version(re.sub(r"[0-9a-f]{40}", "", _say(str(peers.envoy_binary(cache)), "--version"))),
        "haproxy": first_version(_say("haproxy", "-v")),
        "nginx": first_version(_say("nginx", "-v")),
        "wrk": first_version(_say("wrk", "-v")),
        "commit": commit(),
    }
