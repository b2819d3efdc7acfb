"""Open files: as many as the system lets us have, and a warning where that isn't enough for the configuration."""

import resource

_RESERVE = 128
"""Descriptors for everything but connections: listeners, logs, probes, key sets, the interpreter's own."""


def raise_open_files() -> int:
    """Raise the soft limit of open files to the hard one. Returns the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return soft
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 1_048_576)
    if wanted != soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft
    return wanted


def complain_about(open_files: int, connections: int) -> str | None:
    """A sentence where `limits.connections` can't be held: each needs a descriptor, and one to the application."""
    needed = 2 * connections + _RESERVE
    if open_files in {resource.RLIM_INFINITY, -1} or needed <= open_files:
        return None
    fit = max(0, (open_files - _RESERVE) // 2)
    return (
        f"limits.connections is {connections} and needs {needed} open files, but the system allows {open_files}, "
        f"enough for about {fit}. Raise the hard limit (ulimit -Hn, LimitNOFILE=) or lower limits.connections."
    )
