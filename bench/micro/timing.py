"""Times small functions so that a change of some per cent shows."""

import timeit
from collections.abc import Callable
from dataclasses import dataclass

REPEAT = 7
_TARGET_S = 0.1


@dataclass(frozen=True, slots=True)
class Micro:
    """One function call to time. `call` takes nothing and does the work once."""

    name: str
    call: Callable[[], object]


def nanoseconds(micro: Micro) -> float:
    """The best of several repetitions: everything above the best is the machine's noise and not the function's."""
    timer = timeit.Timer(micro.call)
    number, took_s = timer.autorange()
    number = max(1, round(number * _TARGET_S / took_s))
    return min(timer.repeat(REPEAT, number)) / number * 1e9
