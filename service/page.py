"""The pages at / and /docs: plain files, and a policy under which the browser loads and runs nothing else."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

__all__ = ["files", "router"]

FOLDER = Path(__file__).parent / "static"
POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
def page() -> FileResponse:
    """The page."""
    return FileResponse(FOLDER / "index.html", headers=POLICY)


@router.get("/docs")
def docs() -> FileResponse:
    """The OpenAPI document in words; nothing comes from another host, so it works without a network."""
    return FileResponse(FOLDER / "docs.html", headers=POLICY)


def files() -> StaticFiles:
    """The page's styles and scripts."""
    return StaticFiles(directory=FOLDER)
