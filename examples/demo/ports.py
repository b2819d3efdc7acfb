"""Free TCP ports that stay ours until the process that is meant to listen there has started."""

import socket


class ReservedPort:
    """A bound socket that never listens: no other program gets the port, and one with SO_REUSEPORT can share it."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Let go of it."""
        self._socket.close()
