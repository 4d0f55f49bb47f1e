"""A service that answers every path with "inside", behind Access: what is refused, and why, shows without an engine."""

from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from service.access import Access
from service.keys import Keys
from service.settings import Settings

__all__ = ["bearer", "door", "write"]


def door(address: str = "127.0.0.1", host: str = "127.0.0.1", **settings: Any) -> TestClient:
    """Return a client at `address`, which calls the service `host`."""
    asked = Settings(**settings)
    app = Access(PlainTextResponse("inside"), asked, Keys(asked.keys) if asked.keys else None)
    return TestClient(app, f"http://{host}", client=(address, 50_000))


def write(file: Path, *lines: str) -> Path:
    """Write a file of keys as scripts/make_key.py does: beside the old one, then over it."""
    part = file.with_name("new")
    part.write_text("".join(f"{line}\n" for line in lines))
    part.chmod(0o644)
    return part.replace(file)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
