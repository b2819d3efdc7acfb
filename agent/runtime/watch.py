"""Whether files have changed, by looking at them: works on every file system and sees Kubernetes' symlink swaps."""

import os
from collections.abc import Iterable

Look = tuple[int, int, int, int]


def look(file: str) -> Look:
    """Equal as long as the file is the same. Follows symlinks: a ConfigMap is swapped by one far up its path.

    A file that isn't there is the same as long as it isn't.
    """
    try:
        status = os.stat(file)  # noqa: PTH116  a syscall, not an object, once a second for each file
    except OSError:
        return 0, 0, 0, 0
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


class Watch:
    """Says once for each change that it is time to read the files again, after they have rested for `debounce_s`."""

    def __init__(self, files: Iterable[str], *, debounce_s: float) -> None:
        self._debounce_s = debounce_s
        self._read = {file: look(file) for file in files}
        self._seen = self._read
        self._seen_at = 0.0

    def is_due(self, now: float) -> bool:
        """Look at the files: whether they differ from what was read, and have been at rest since."""
        current = {file: look(file) for file in self._read}
        if current != self._seen:
            self._seen, self._seen_at = current, now
        return current != self._read and now - self._seen_at >= self._debounce_s

    def reading(self) -> None:
        """Call before the files are read: what changes from now on is a change again."""
        self._read = self._seen = {file: look(file) for file in self._read}

    def follow(self, files: Iterable[str]) -> None:
        """Call after the files were read: watch these. Those known already stay as they were before the reading."""
        self._read = {file: self._read.get(file) or look(file) for file in files}
        self._seen = self._read

    @property
    def is_settling(self) -> bool:
        """Something has changed and not rested long enough."""
        return self._seen != self._read
