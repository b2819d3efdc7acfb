"""One view of all workers' metrics in which no counter ever falls, whoever dies or is slow to answer."""

from agent.telemetry.snapshot import Snapshot, merge


class Gathered:
    """Keeps each worker's last snapshot.

    A worker that doesn't answer is shown as it was, and a dead worker's counts stay: a sum that falls would look like
    a restart to Prometheus, which then counts everything twice. Gauges of the dead are gone.
    """

    def __init__(self) -> None:
        self._last: dict[int, Snapshot] = {}
        self._past: Snapshot = {"info": {}, "families": []}

    def answered(self, worker: int, snapshot: Snapshot) -> None:
        """What a worker has just told."""
        self._last[worker] = snapshot

    def died(self, worker: int) -> None:
        """The worker is gone; its successor begins at zero."""
        last = self._last.pop(worker, None)
        if last is not None:
            counted = [family for family in last["families"] if family["kind"] != "gauge"]
            self._past = merge([self._past, {"info": last["info"], "families": counted}])

    def view(self, own: Snapshot) -> Snapshot:
        """Everything, with the supervisor's `own` metrics first."""
        return merge([own, self._past, *self._last.values()])
