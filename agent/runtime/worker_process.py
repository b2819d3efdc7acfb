"""Forking one worker, also out of a running event loop, and noticing its end.

The child never returns into the stack that it was forked from: it runs its own main function with its own loop and
ends by `os._exit`. Whatever it has inherited is made harmless first, because descriptors and event-loop structures are
shared with the supervisor, not copied:
- signals are blocked around the fork; the child ignores them and cuts the shared wake-up descriptor,
- every inherited descriptor (listeners, other workers' channels, the supervisor's epoll) is replaced by /dev/null. It
  isn't closed, so that its number isn't taken by something new which an old object might close later,
- all inherited objects are frozen, so that the collector never finalises one of the supervisor's.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from agent.runtime.signals import ENDING, ignore_all

WorkerMain = Callable[[int, socket.socket], int]
"""Called in the child as `main(index, channel_socket)`; returns the exit code, usually that of `run_to_the_end`."""

EXIT_DEFECT = 70
"""The worker's main function raised (EX_SOFTWARE of sysexits.h)."""

_POLL_S = 0.2


class Child(NamedTuple):
    """A forked worker, seen from the supervisor."""

    pid: int
    sock: socket.socket
    """The supervisor's end of the channel."""


def fork_worker(main: WorkerMain, index: int, *, keep: Iterable[int] = ()) -> Child:
    """Fork. Must not be called from within a task (the child would inherit it as the current one): use a callback.

    `keep` are descriptors that the worker goes on using. Raises OSError where the system allows no more processes.
    """
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*ENDING, signal.SIGHUP})
    try:
        pid = os.fork()
        if pid == 0:
            _become_worker(main, index, theirs, keep={theirs.fileno(), *keep}, mask=mask)
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
    return Child(pid, ours)


def run_to_the_end(main: Coroutine[Any, Any, int], loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> int:
    """Run a worker's main coroutine in a loop of its own, which is never closed: `os._exit` follows.

    Closing would wait for whatever a failed start has left open (uvloop does so for ever), and nobody needs it.
    """
    loop = loop_factory()
    asyncio.set_event_loop(loop)
    return loop.run_until_complete(main)


def _become_worker(
    main: WorkerMain, index: int, sock: socket.socket, *, keep: set[int], mask: set[int | signal.Signals]
) -> NoReturn:
    code = EXIT_DEFECT
    try:
        ignore_all()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        gc.freeze()
        asyncio._set_running_loop(None)  # newer Pythons don't notice the fork by themselves
        asyncio.set_event_loop(None)
        _make_harmless(keep)
        code = main(index, sock)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else EXIT_DEFECT
    except BaseException:  # noqa: BLE001  nothing may escape into the supervisor's stack
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _make_harmless(keep: set[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in _open_descriptors():
        if number > 2 and number != null and number not in keep:
            os.dup2(null, number, inheritable=False)


def _open_descriptors() -> list[int]:
    for folder in (Path("/proc/self/fd"), Path("/dev/fd")):
        if folder.is_dir():
            # Opening the folder takes a descriptor that is gone again when the list is there.
            return [number for number in (int(entry.name) for entry in folder.iterdir()) if _is_open(number)]
    return [number for number in range(3, 4096) if _is_open(number)]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


async def exited(pid: int) -> int:
    """Wait for the child to end, and reap it. Returns its exit code; 128 + n where signal n ended it."""
    descriptor = _pidfd(pid)
    try:
        while True:
            if descriptor is None:
                await asyncio.sleep(_POLL_S)
            else:
                await _readable(descriptor)
            done, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222  WNOHANG doesn't wait
            if done:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
    except ChildProcessError:
        return EXIT_DEFECT  # somebody else reaped it
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable at the process's end (Linux); None where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(descriptor)
