"""The application behind every proxy: an nginx that answers from memory, on a core of its own."""

from pathlib import Path

from bench import process, render

SMALL = "/orders/42"
LARGE = "/orders/10k"
UPLOAD = "/orders/upload"
SMALL_BYTES = 150
UPLOAD_BYTES = 65_536


def body(size: int) -> str:
    """A JSON document of exactly `size` bytes."""
    start, end = '{"id":42,"status":"new","note":"', '"}'
    return start + "x" * (size - len(start) - len(end)) + end


class Backend:
    """Starts and stops the application."""

    def __init__(self, folder: Path, core: int) -> None:
        self.port = process.free_port()
        values: dict[str, object] = {
            "dir": folder,
            "port": self.port,
            "small": body(SMALL_BYTES),
            "kib": "x" * 1024,
        }
        config = render.write("backend.conf", folder / "backend.conf", values)
        self._process = process.Process("backend", ["nginx", "-c", str(config)], core=core, folder=folder)

    def ready(self) -> None:
        """Return when it answers; raises StartError."""
        self._process.wait_ready(self.port, SMALL, {})

    def stop(self) -> None:
        """End it."""
        self._process.stop()
