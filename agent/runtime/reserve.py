"""Holds a port for workers that will share it, without ever listening on it."""

import socket


def reserve(host: str, port: int) -> tuple[socket.socket, int]:
    """Bind with SO_REUSEPORT so that each worker can bind the same address; port 0 picks a free one.

    Keep the socket: as long as it is bound, nobody else gets the port, also while no worker listens. A taken address
    is noticed here, once, and not by every worker. Raises OSError.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock, int(sock.getsockname()[1])
