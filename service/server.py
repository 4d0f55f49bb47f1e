"""The service as a process. It opens its port first, and it ends when the engine cannot be loaded."""

import os
import resource
import socket

from service.app import create_app
from service.connections import ConnectionConfig
from service.engine import Engine
from service.loading import load_engine
from service.logs import logging_for
from service.port import listen
from service.settings import Settings
from service.stopping import DRAIN, Server
from service.tracing import tracing_for

__all__ = ["serve"]

OTHER_FILES = 500  # of the index, temporary files, pipes of decoders: descriptors that are not connections


def serve(settings: Settings) -> None:
    """Serve until SIGTERM.

    Raises KeyboardInterrupt after SIGINT, PortTaken, TracingMissing, Unfinished, and what `load_engine` raises.
    """
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    with (
        listen(settings.host, settings.port) as listener,
        logging_for(settings),
        tracing_for(os.environ) as tracing,
    ):

        def load(settings: Settings) -> Engine:
            engine = load_engine(settings)
            print(f"fc7 is at {_address(settings.host, listener)}", flush=True)  # noqa: T201 (the address that people wait for)
            return engine

        app = create_app(settings, load, failed, tracing)
        config = ConnectionConfig(
            app,
            _connections(settings.max_connections),
            app.state.metrics,
            log_config=None,  # logs.py
            log_level="warning",
            access_log=False,
            proxy_headers=bool(settings.proxies),
            forwarded_allow_ips=list(settings.proxies),
            timeout_graceful_shutdown=DRAIN + 1,
        )
        server = Server(config, app.state.gate)
        server.run(sockets=[listener])
    if failures:
        raise failures[0]
    server.tell()


def _connections(most: int) -> int:
    """Return how many connections there can be, at most `most`: each takes one of the process's file descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < most + OTHER_FILES:
        soft = min(most + OTHER_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(most, soft - OTHER_FILES))


def _address(host: str, listener: socket.socket) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{listener.getsockname()[1]}"
