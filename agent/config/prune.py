"""Take what is wrong out of a configuration, so that the rest is judged too: all errors at once."""

from collections.abc import Iterable
from typing import Any

from agent.config.errors import Fault, Path
from agent.config.suggest import at


class Pruned:
    """Data without some of its parts, and how positions in its lists relate to those in the file."""

    __slots__ = ("_positions", "data", "removed")

    def __init__(self, data: Any) -> None:
        self._positions: dict[Path, list[int]] = {}
        """Path of a list in the file → for each entry that is left, its position in the file."""
        self.data = _copy(data)
        self.removed: set[Path] = set()

    def original(self, path: Path) -> Path:
        """A path in the pruned data as a path in the file."""
        result: Path = ()
        for step in path:
            positions = self._positions.get(result)
            if isinstance(step, int) and positions is not None and step < len(positions):
                step = positions[step]  # noqa: PLW2901
            result = (*result, step)
        return result

    def remove(self, paths: Iterable[Path]) -> None:
        """Take out what is at `paths`, which are paths in the file. Later positions of a list go first."""
        for path in sorted(set(paths), key=_order, reverse=True):
            parent = at(self.data, self._current(path[:-1]))
            step = path[-1]
            if isinstance(parent, dict) and step in parent:
                del parent[step]
            elif isinstance(parent, list) and isinstance(step, int):
                positions = self._positions.setdefault(path[:-1], list(range(len(parent))))
                if step not in positions:
                    continue
                del parent[positions.index(step)]
                positions.remove(step)
            self.removed.add(path)

    def _current(self, path: Path) -> Path:
        """A path in the file as a path in the pruned data; a position that is gone leads nowhere."""
        result: Path = ()
        for index, step in enumerate(path):
            positions = self._positions.get(path[:index])
            if isinstance(step, int) and positions is not None:
                step = positions.index(step) if step in positions else 1 << 62  # noqa: PLW2901
            result = (*result, step)
        return result

    def may_explain(self, path: Path) -> bool:
        """Whether what is missing at `path` may be there under a wrong name: `upstrem` was taken out beside it."""
        is_missing = not is_there(self.data, self._current(path))
        return is_missing and any(removed[:-1] == path[:-1] for removed in self.removed)

    def touches(self, path: Path) -> bool:
        """Whether something at, above or below `path` was taken out."""
        return any(is_related(path, removed) for removed in self.removed)


def cuts(faults: Iterable[Fault], data: Any) -> list[Path]:
    """What has to go for these faults to go: the value, or where it is missing what it is missing from."""
    paths = []
    for fault in faults:
        path = fault.path
        while path and at(data, path[:-1]) is not None and not is_there(data, path):
            path = path[:-1]
        if path:
            paths.append(path)
    return paths


def is_related(one: Path, other: Path) -> bool:
    """Whether one of the paths leads through the other."""
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def is_there(data: Any, path: Path) -> bool:
    """Whether something stands at `path`, be it null."""
    parent, step = at(data, path[:-1]), path[-1]
    return step in parent if isinstance(parent, dict) else isinstance(parent, list)


def _copy(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copy(value) for key, value in data.items()}
    return [_copy(item) for item in data] if isinstance(data, list) else data


def _order(path: Path) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, step, "") if isinstance(step, int) else (1, 0, step) for step in path)
