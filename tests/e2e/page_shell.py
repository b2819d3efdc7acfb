"""One shell for the commands of a page: variables and background jobs live on from block to block."""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path


class PageShell:
    """A running bash. Ask it one command at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._mark = secrets.token_hex(8)

    async def run(self, command: str, *, wait_s: float = 30.0) -> tuple[int, str]:
        """Run a command: (exit status, what it printed on both outputs)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # In braces and without input, so that no command eats the next one.
        self._process.stdin.write(f"{{ {command}\n}} < /dev/null; ended=$?; echo; echo {self._mark} $ended\n".encode())
        lines: list[str] = []
        async with asyncio.timeout(wait_s):
            while line := (await self._process.stdout.readline()).decode():
                if line.startswith(self._mark):
                    return int(line.split()[1]), "".join(lines)
                lines.append(line)
        raise AssertionError(f"the shell ended at: {command}\n{''.join(lines)}")


@asynccontextmanager
async def page_shell(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[PageShell]:
    """A shell in `folder`; it and everything that it has started ends with the block."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "--norc",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        yield PageShell(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
