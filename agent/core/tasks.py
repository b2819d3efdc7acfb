"""Background tasks that can't vanish: a strong reference while they run, and their error is reported."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()


def _tell_the_loop(task_name: str, error: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"background task {task_name!r} failed", "exception": error}
    )


def spawn(
    coroutine: Coroutine[Any, Any, T],
    *,
    name: str,
    on_error: Callable[[str, BaseException], None] = _tell_the_loop,
) -> "asyncio.Task[T]":
    """Run `coroutine` in the background. An error goes to `on_error(name, error)`; cancellation is silent.

    Without `on_error` the loop's exception handler gets it, which logs.
    """
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)

    def done(finished: "asyncio.Task[T]") -> None:
        _running.discard(finished)
        if not finished.cancelled() and (error := finished.exception()) is not None:
            on_error(name, error)

    task.add_done_callback(done)
    return task
