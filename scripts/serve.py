"""Serve a bundle: the page at /, the answers as JSON, until Ctrl-C."""

from scripts.command import run
from service.server import serve
from service.settings import Settings

if __name__ == "__main__":
    run(Settings, serve)
