"""The sidecar's own log: JSON lines with masked fields, a level that changes while running, and bounded repetition."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from agent.core import clock
from agent.telemetry.printable import printable, rfc3339
from agent.telemetry.redaction import MASKED, Redaction, without_credentials

LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_OWN = frozenset({"time", "level", "service", "logger", "message", "repeated"})
_BURSTS = 512
"""Messages whose repetition is watched at a time."""


class _Burst:
    """One message within its window: how often it came, and until when it counts as a repetition."""

    __slots__ = ("count", "until")

    def __init__(self, until: float) -> None:
        self.count = 0
        self.until = until


class ProcessLog:
    """Where all loggers of the process write. `write` takes whole lines as bytes and must not block.

    The same message of the same logger and level is written `repeat_limit` times in `window_s` seconds; what comes
    beyond is counted, and one line with `repeated` says so when the window ends. Variable parts belong into fields.
    `constant` fields stand in every line.
    """

    __slots__ = (
        "_bursts",
        "_clock",
        "_constant",
        "_redaction",
        "_service",
        "_wall",
        "_write",
        "repeat_limit",
        "threshold",
        "window_s",
    )

    def __init__(  # noqa: PLR0913  the knobs of one sink, all by name
        self,
        write: Callable[[bytes], object],
        *,
        service: str = "",
        constant: Mapping[str, Any] | None = None,
        level: str = "info",
        mask: Iterable[str] = (),
        repeat_limit: int = 10,
        window_s: float = 10.0,
        monotonic: clock.Clock = clock.monotonic,
        wall: clock.Clock = clock.wall,
    ) -> None:
        self._write = write
        self._service = printable(service)
        self._constant = constant or {}
        self._redaction = Redaction(mask)
        self._clock = monotonic
        self._wall = wall
        self._bursts: dict[tuple[str, str, str], _Burst] = {}
        self.repeat_limit = repeat_limit
        self.window_s = window_s
        self.threshold = 0
        """Number of the lowest level that is written, as in LEVELS."""
        self.level = level

    @property
    def level(self) -> str:
        """Name of the lowest level that is written. Setting an unknown one raises ValueError."""
        return next(name for name, number in LEVELS.items() if number == self.threshold)

    @level.setter
    def level(self, name: str) -> None:
        if name not in LEVELS:
            raise ValueError(f"{name!r} is no log level: choose one of {', '.join(LEVELS)}")
        self.threshold = LEVELS[name]

    def mask(self, names: Iterable[str]) -> None:
        """Replace the configured masks; the built-in ones (`redaction.SECRETS`) always hold."""
        self._redaction = Redaction(names)

    def logger(self, name: str) -> "Logger":
        """A logger of this name, for one part of the sidecar."""
        return Logger(self, name)

    def log(self, level: str, logger: str, message: str, fields: dict[str, Any]) -> None:
        """Write one line, where the level is high enough and the message isn't repeated too often."""
        if LEVELS[level] < self.threshold:
            return
        if self._admit((level, logger, message)):
            self._line(level, logger, message, fields)

    def tick(self) -> None:
        """Sum up repetitions whose window has ended. Call it about every second."""
        now = self._clock()
        for key in [key for key, burst in self._bursts.items() if burst.until <= now]:
            self._sum_up(key)

    def flush(self) -> None:
        """Sum up all repetitions: call it before the process ends."""
        for key in list(self._bursts):
            self._sum_up(key)

    def _admit(self, key: tuple[str, str, str]) -> bool:
        now = self._clock()
        burst = self._bursts.get(key)
        if burst is None or burst.until <= now:
            self._sum_up(key)
            if len(self._bursts) >= _BURSTS:
                self._sum_up(next(iter(self._bursts)))
            burst = self._bursts[key] = _Burst(now + self.window_s)
        burst.count += 1
        return burst.count <= self.repeat_limit

    def _sum_up(self, key: tuple[str, str, str]) -> None:
        burst = self._bursts.pop(key, None)
        if burst is not None and burst.count > self.repeat_limit:
            self._line(*key, {}, repeated=burst.count - self.repeat_limit)

    def _line(self, level: str, logger: str, message: str, fields: dict[str, Any], repeated: int = 0) -> None:
        line: dict[str, Any] = {
            "time": rfc3339(int(self._wall() * 1000)),
            "level": level,
            "service": self._service,
            "logger": printable(logger),
            "message": without_credentials(message),
        }
        if repeated:
            line["repeated"] = repeated
        line |= self._constant
        for key, value in fields.items():
            name = printable(key)
            shown = MASKED if self._redaction.hides(name) else self._redaction.clean(value)
            line[f"{name}_" if name in _OWN else name] = shown
        self._write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


class Logger:
    """The log of one part of the sidecar. Fields are keywords; an exception as a field shows its type and frames."""

    __slots__ = ("_log", "_name")

    def __init__(self, log: ProcessLog, name: str) -> None:
        self._log = log
        self._name = name

    def debug(self, message: str, /, **fields: Any) -> None:
        """What only someone who looks for a fault wants to know."""
        if self._log.threshold <= 10:
            self._log.log("debug", self._name, message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        """What happened as it should."""
        self._log.log("info", self._name, message, fields)

    def warning(self, message: str, /, **fields: Any) -> None:
        """What works, but not as it should."""
        self._log.log("warning", self._name, message, fields)

    def error(self, message: str, /, **fields: Any) -> None:
        """What doesn't work. Pass `exception=error` to show where; a field `error` is text, in every line alike."""
        self._log.log("error", self._name, message, fields)


class StandardHandler(logging.Handler):
    """Brings what libraries log by Python's `logging` (asyncio above all) into the same lines, masks and limits."""

    def __init__(self, log: ProcessLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record of the standard library's."""
        level = next((name for name in reversed(LEVELS) if record.levelno >= LEVELS[name]), "debug")
        error = record.exc_info[1] if record.exc_info else None
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        self._log.log(level, record.name, message, {"exception": error} if error is not None else {})
