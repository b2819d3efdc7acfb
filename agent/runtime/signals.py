"""Signals as calls in the event loop, on asyncio and uvloop alike."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handled(handlers: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """While the block runs, each signal calls its handler inside the running loop; then it does what it did before."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
            if before[number] is not None:  # else it was set outside of Python
                signal.signal(number, before[number])


def ignore_all() -> None:
    """For workers: a terminal's Ctrl-C and systemd reach the whole group, but only the supervisor decides.

    Also cuts the wake-up descriptor that a fork shares with the supervisor's loop, which would take signals of the
    worker for its own.
    """
    signal.set_wakeup_fd(-1)
    for number in (*ENDING, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
