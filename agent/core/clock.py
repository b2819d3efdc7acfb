"""Time as a value: passed in, never imported by a decision, so that tests move it by hand."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds as a float. Monotonic unless a parameter is named `wall`."""

monotonic: Clock = time.monotonic
"""Seconds that never go back; the same clock as the event loop's `loop.time()`."""

wall: Clock = time.time
"""Seconds since the Unix epoch: for what leaves the process (logs, `exp` claims), never for intervals."""
