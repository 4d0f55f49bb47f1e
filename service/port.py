"""Taking the port, before any slow work: who cannot have it is told at once."""

import socket

__all__ = ["PortTaken", "listen"]


class PortTaken(OSError):
    """The address cannot be listened on."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at `host`, `port`. Raises PortTaken, saying why not."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise PortTaken(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another with --port or FC7_PORT"
        ) from error
