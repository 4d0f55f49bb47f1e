"""Opening the port. It comes before any slow work, so that a taken port is reported at once."""

import socket

__all__ = ["PortTaken", "listen"]


class PortTaken(OSError):
    """The service cannot listen on this address; the message says why."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`. Raises PortTaken."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise PortTaken(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another with --port or FC7_PORT"
        ) from error
