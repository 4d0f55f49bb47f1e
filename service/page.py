"""The pages at / and /docs: static files. headers.py lets the browser load nothing from other hosts.

/docs is Swagger UI, from the copy that the package fastapi-swagger holds.
"""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

from service.headers import HEADERS

__all__ = ["files", "router", "swagger"]

FOLDER = Path(__file__).parent / "static"
FRESH = {"Cache-Control": "no-cache"}
POLICY = "Content-Security-Policy"
DRAWN = {POLICY: HEADERS[POLICY].replace("img-src 'self'", "img-src 'self' data:")}  # Swagger UI's icons are in its CSS

router = APIRouter(include_in_schema=False)


@router.get("/")
def page() -> FileResponse:
    return FileResponse(FOLDER / "index.html", headers=FRESH)


@router.get("/docs")
def docs() -> FileResponse:
    """The routes, to read and to try. Unlike FastAPI's own page, it loads nothing from other hosts."""
    return FileResponse(FOLDER / "docs.html", headers=FRESH | DRAWN)


class Fresh(StaticFiles):
    """A browser asks each time whether a file is as it was: after an update it mixes no old script with new ones."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH)
        return response


def files() -> StaticFiles:
    """Return the app that serves the pages' styles and scripts."""
    return Fresh(directory=FOLDER)


def swagger() -> StaticFiles:
    """Return the app that serves Swagger UI."""
    return StaticFiles(packages=[("fastapi_swagger", "resources")])
