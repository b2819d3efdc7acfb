"""What one process tells about itself: its metrics, its own log and the access log, on their way to standard output."""

import asyncio
import logging
from typing import Any

from agent.config.root import Config
from agent.core.tasks import spawn
from agent.runtime.log_writer import LogWriter, pump
from agent.runtime.process_metrics import measure_process
from agent.telemetry.access_log import AccessLog
from agent.telemetry.metrics import Registry
from agent.telemetry.process_log import LEVELS, ProcessLog, StandardHandler

_INTERVAL_S = 0.2
_FLUSH_S = 2.0


class Telemetry:
    """Of the one process, of the supervisor, or of a worker. Made before or in the event loop, started in it."""

    def __init__(self, config: Config, *, worker: int | None = None, lock: int | None = None) -> None:
        """`worker` is this worker's number; `lock` is shared with the other processes that write the same log."""
        service, logs = config.service, config.telemetry.logs
        self.registry = Registry(max_series=config.telemetry.metrics.max_series)
        self.registry.info.update(
            service_name=service.name,
            service_version=service.version,
            deployment_environment_name=service.environment,
        )
        measure_process(self.registry, worker=worker)
        self._writer = LogWriter(1, self.registry, lock=lock)
        self._process_log = ProcessLog(
            self._writer.write,
            service=service.name,
            constant={} if worker is None else {"worker": worker},
            level=logs.level,
            mask=logs.mask,
        )
        self.access_log = AccessLog(logs.buffer, self.registry, service=service.name)
        self.log = self._process_log.logger("outrigger")
        self._handler = StandardHandler(self._process_log)
        self._configured_level = logs.level
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write, what libraries log included."""
        root = logging.getLogger()
        root.handlers = [self._handler]  # a worker has inherited its supervisor's, whose writer doesn't run here
        root.setLevel(LEVELS[self.level])
        self._writer.start()
        work = pump(self.access_log, self._writer, _INTERVAL_S, process_log=self._process_log)
        self._task = spawn(work, name="log", on_error=self.report)

    def use(self, config: Config) -> None:
        """Follow a new configuration. A level that an operator has set stays, unless the file names another one."""
        logs = config.telemetry.logs
        self._process_log.mask(logs.mask)
        if logs.level != self._configured_level:
            self._configured_level = logs.level
            self.level = logs.level

    @property
    def level(self) -> str:
        """The log level in force. Setting an unknown one raises ValueError naming those that there are."""
        return self._process_log.level

    @level.setter
    def level(self, level: str) -> None:
        self._process_log.level = level
        logging.getLogger().setLevel(LEVELS[level])

    def say(self, level: str, sentence: str, **fields: Any) -> None:
        """Log, as `agent.runtime.process.Log` has it."""
        getattr(self.log, level)(sentence, **fields)

    def report(self, where: str, error: BaseException) -> None:
        """Log a defect."""
        self.log.error("a part of the sidecar failed", where=where, exception=error)

    async def close(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._process_log.flush()
        await asyncio.to_thread(self._writer.close, _FLUSH_S)
        root = logging.getLogger()
        root.handlers = [handler for handler in root.handlers if handler is not self._handler]
