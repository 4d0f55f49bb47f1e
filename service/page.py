"""The pages at / and /docs: static files. headers.py lets the browser load nothing from other hosts."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

__all__ = ["files", "router"]

FOLDER = Path(__file__).parent / "static"
FRESH = {"Cache-Control": "no-cache"}

router = APIRouter(include_in_schema=False)


@router.get("/")
def page() -> FileResponse:
    return FileResponse(FOLDER / "index.html", headers=FRESH)


@router.get("/docs")
def docs() -> FileResponse:
    """The routes in words, from openapi.json. Unlike FastAPI's own page, it loads nothing from other hosts."""
    return FileResponse(FOLDER / "docs.html", headers=FRESH)


def files() -> StaticFiles:
    """Return the app that serves the pages' styles and scripts."""
    return StaticFiles(directory=FOLDER)
