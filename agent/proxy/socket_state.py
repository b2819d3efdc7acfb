"""What the kernel knows of a connection: what its peer hasn't taken yet, and what it said before it broke."""

import asyncio
import fcntl
import struct
import termios


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Bytes written that the peer hasn't acknowledged: in our buffer and in the kernel's. For rare looks: a syscall."""
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    try:
        (queued,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    except (OSError, ValueError, AttributeError):  # closed meanwhile
        return waiting
    return waiting + int(queued)


def last_words(transport: asyncio.Transport) -> bytes:
    """What a peer sent before a connection broke under our writing, up to 256 KiB; for `connection_lost`.

    An application may answer without reading the request's body (413) and close: our next write fails, and the loop
    gives the connection up while the answer is still unread in the kernel.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("sslcontext") is not None:
        return b""
    try:
        with sock.dup() as readable:
            return bytes(readable.recv(262144))
    except (OSError, ValueError):  # nothing there, or closed already
        return b""
