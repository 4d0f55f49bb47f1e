"""The pages at / and /docs: static files, with a policy that lets the browser load nothing from other hosts."""

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
    return FileResponse(FOLDER / "index.html", headers=POLICY)


@router.get("/docs")
def docs() -> FileResponse:
    """The routes in words, from openapi.json. Unlike FastAPI's own page, it loads nothing from other hosts."""
    return FileResponse(FOLDER / "docs.html", headers=POLICY)


def files() -> StaticFiles:
    """Return the app that serves the pages' styles and scripts."""
    return StaticFiles(directory=FOLDER)
