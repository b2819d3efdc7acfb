"""Counting over the last seconds in constant memory: a ring of snapshots of growing integers."""

BUCKETS = 10
"""Parts of the window. What is counted spans between nine and ten of them: at most a tenth is forgotten early."""


class Window:
    """A few counters and what each gained during the last `window_s` seconds.

    `counts` only ever grow: whoever counts writes ``window.counts[i] += 1`` after
    ``if now >= window.turn_at: window.turn(now)``. A ring remembers what they were when each bucket began, so the
    count itself is one addition, and a turn happens ten times a window however many requests there are.
    """

    __slots__ = ("_at", "_bucket_s", "_ring", "counts", "turn_at")

    def __init__(self, window_s: float, counters: int) -> None:
        self.counts = [0] * counters
        self.turn_at = 0.0
        self._bucket_s = window_s / BUCKETS
        self._at = 0
        self._ring = [(0,) * counters] * BUCKETS

    def turn(self, now: float) -> None:
        """Begin the bucket that `now` falls into."""
        buckets = int((now - self.turn_at) / self._bucket_s) + 1
        self.turn_at += buckets * self._bucket_s
        snapshot = tuple(self.counts)
        for _ in range(min(buckets, BUCKETS)):
            self._at = (self._at + 1) % BUCKETS
            self._ring[self._at] = snapshot

    def recent(self, counter: int) -> int:
        """What the counter gained within the window. Turn first where `now` has reached `turn_at`."""
        return self.counts[counter] - self._ring[(self._at + 1) % BUCKETS][counter]

    def forget(self) -> None:
        """Begin anew: nothing that was counted so far is recent any more."""
        self._ring = [tuple(self.counts)] * BUCKETS
