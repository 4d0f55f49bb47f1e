"""Serve a bundle until Ctrl-C: the page at /, answers as JSON."""

from scripts.command import run
from service.server import serve
from service.settings import Settings

if __name__ == "__main__":
    run(Settings, serve)
