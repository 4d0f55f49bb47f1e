"""Opening the port. It comes before any slow work, so that a taken port is reported at once."""

import socket

__all__ = ["PortTaken", "listen"]


class PortTaken(OSError):
    """The service cannot listen on this address; the message says why."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`. Raises PortTaken."""
    if not 0 <= port <= 65535:  # the socket raises OverflowError, and stays open
        raise _taken(host, port, "a port is a number from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise _taken(host, port, error.strerror) from error
    except UnicodeError as error:
        raise _taken(host, port, "not a host name") from error
    # Connections inherit it. Without it the body of an answer waits 40 ms for the client to confirm its head; asyncio
    # sets it for none but the sockets that it opens itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _taken(host: str, port: int, reason: str | None) -> PortTaken:
    return PortTaken(f"cannot listen on {host}, port {port}: {reason}; choose another with --port or FC7_PORT")
