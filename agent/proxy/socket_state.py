"""What the kernel knows of a connection: how much of what was written its peer hasn't taken yet."""

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
