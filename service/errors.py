"""Errors over HTTP: one table turns every exception into a problem+json document (RFC 9457) with a stable `type`.

An answer holds the request's id, no stack trace and no path. An exception that is not in the table becomes a 500
without details, and its trace goes to the log.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from index import NoSuchImage, NoSuchLabel
from model import BadImage, TooManyPixels
from service.headers import HEADERS
from service.hosts import CrossSite, WrongHost
from service.keys import Closed, KeyNeeded, NotAllowed
from service.map import NoMap
from service.rates import TooManyRequests
from service.schemas import Problem
from service.stages import note, request_id

__all__ = [
    "CLOSE",
    "KINDS",
    "UNREADY",
    "BadParameter",
    "Busy",
    "CanaryFailed",
    "CannotChange",
    "CollectionBusy",
    "DamagedIndex",
    "GenerationRefused",
    "NoDecoder",
    "NotReady",
    "Stopping",
    "TooCostly",
    "TooManyBytes",
    "TooSlow",
    "WrongMediaType",
    "described",
    "documented",
    "install",
    "problem",
]

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = (1, 3)  # drawn, so that those who were refused together do not come back together
CLOSE = MappingProxyType({"Connection": "close"})  # the rest of the body is not waited for

# What is raised while FastAPI reads a body is an HTTPException: it would call any other error a malformed body.


class BadParameter(ValueError):
    """Two parameters that exclude each other, or none of two where one is needed."""


class NotReady(RuntimeError):
    """The network and the index are still being loaded."""

    def __init__(self, detail: str = "the network and the index are still being loaded; try again in a moment") -> None:
        super().__init__(detail)


class Busy(HTTPException):
    """The maximum of concurrent requests is reached."""

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(503, detail, headers)


class Stopping(HTTPException):
    """The service is being stopped."""

    def __init__(self) -> None:
        super().__init__(503, "the service is being stopped; try again when it has been started", CLOSE)


class TooSlow(HTTPException):
    """The request body did not arrive in time."""

    def __init__(self, rate: float, seconds: float) -> None:
        accepted = f"{rate:,.0f} bytes a second, and {seconds:,.0f} seconds in all"
        super().__init__(408, f"the request arrives too slowly; accepted are {accepted}", CLOSE)


class DamagedIndex(RuntimeError):
    """A file of the index is not the one that was published."""

    def __init__(self, part: str) -> None:
        super().__init__(f"{part} of the index is not the file that was published; build the index again, and restart")


class NoDecoder(RuntimeError):
    """A process that decodes images ended and cannot be started again."""


class CanaryFailed(RuntimeError):
    """Images of the index no longer give the features that are indexed: answers may be wrong."""


class GenerationRefused(RuntimeError):
    """The bundle's current generation cannot be used; the one before goes on."""


class TooCostly(BadImage):
    """Decoding the image takes more time or memory than the limit."""


class CollectionBusy(RuntimeError):
    """Another process is changing the collection."""


class CannotChange(RuntimeError):
    """The collection cannot be changed; the message says why."""


class TooManyBytes(HTTPException):
    """The request body is larger than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the request is larger than the limit of {limit:,} bytes", CLOSE)


class WrongMediaType(HTTPException):
    """The body is of a media type that this route does not take."""

    def __init__(self, *accepted: str) -> None:
        super().__init__(415, f"a body of {' or '.join(accepted)} is accepted, as the header Content-Type says")


@dataclass(frozen=True)
class Kind:
    """One kind of problem: its status code, the last part of its `type`, its title."""

    status: int
    name: str
    title: str

    @property
    def type(self) -> str:
        """The URI that a program can compare with."""
        return f"urn:fc7:problem:{self.name}"


KINDS: Mapping[type[Exception], Kind] = MappingProxyType(
    {
        BadImage: Kind(400, "not-an-image", "Not an image"),
        TooManyPixels: Kind(413, "too-many-pixels", "Too many pixels"),
        TooCostly: Kind(413, "too-costly", "Too costly to decode"),
        TooManyBytes: Kind(413, "too-many-bytes", "Too many bytes"),
        WrongMediaType: Kind(415, "wrong-media-type", "Wrong media type"),
        BadParameter: Kind(422, "bad-parameter", "Bad parameter"),
        RequestValidationError: Kind(422, "bad-parameter", "Bad parameter"),
        NoSuchImage: Kind(404, "no-such-image", "No such image"),
        NoSuchLabel: Kind(404, "no-such-label", "No such label"),
        NoMap: Kind(404, "no-map", "No map"),
        WrongHost: Kind(421, "wrong-host", "Wrong host"),
        CrossSite: Kind(403, "cross-site", "Sent by another site"),
        KeyNeeded: Kind(401, "key-needed", "A key is needed"),
        NotAllowed: Kind(403, "role-needed", "The key has not the role"),
        Closed: Kind(403, "closed", "Closed"),
        TooManyRequests: Kind(429, "too-many-requests", "Too many requests"),
        NotReady: Kind(503, "not-ready", "Not ready"),
        DamagedIndex: Kind(503, "damaged-index", "Damaged index"),
        TooSlow: Kind(408, "too-slow", "Too slow"),
        NoDecoder: Kind(503, "no-decoder", "No decoder"),
        CanaryFailed: Kind(503, "canary-failed", "Canary failed"),
        CollectionBusy: Kind(409, "collection-busy", "Collection busy"),
        CannotChange: Kind(409, "cannot-change", "Cannot change"),
        GenerationRefused: Kind(409, "generation-refused", "Generation refused"),
        Busy: Kind(503, "busy", "Busy"),
        Stopping: Kind(503, "stopping", "Stopping"),
        MemoryError: Kind(503, "busy", "Busy"),
        Exception: Kind(500, "internal-error", "Internal error"),
    }
)

UNREADY = (NotReady, DamagedIndex, CanaryFailed, NoDecoder)  # what /readyz may answer: see readiness.py
LASTING = (DamagedIndex, CanaryFailed)  # asking again a moment later does not help

# The framework's own exceptions, by status code.
FRAMEWORK: Mapping[int, Kind] = MappingProxyType(
    {
        400: Kind(400, "malformed-request", "Malformed request"),
        404: Kind(404, "no-such-page", "No such page"),
        405: Kind(405, "method-not-allowed", "Method not allowed"),
    }
)

# These texts replace the exception's own, which may hold details of this machine.
DETAILS: Mapping[type[Exception], str] = MappingProxyType(
    {
        MemoryError: "there is not enough memory for this image now; try again, or send a smaller one",
        Exception: "something went wrong in the server; its log says what",
    }
)


def described(error: Exception) -> dict[str, Any]:
    """Return the problem+json document of an exception."""
    kind = _kind(error)
    body: dict[str, Any] = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": _detail(error)}
    if found := request_id():
        body["request_id"] = found
    if isinstance(error, RequestValidationError):
        body["errors"] = [{"field": _field(found), "message": _message(found)} for found in error.errors()]
    return body


def problem(error: Exception) -> Response:
    """Return the answer to an exception."""
    kind = _kind(error)
    note(problem=kind.name)
    headers = HEADERS | dict((isinstance(error, HTTPException) and error.headers) or {})
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE and not isinstance(error, LASTING):
        headers["Retry-After"] = str(random.randint(*RETRY_SECONDS))
    return JSONResponse(described(error), kind.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make `app` answer every exception with its problem+json document."""

    async def answer(_: Request, error: Exception) -> Response:
        return problem(error)

    for error in {*KINDS, HTTPException} - {Exception}:  # Observed answers whatever is left
        app.add_exception_handler(error, answer)


def documented(*errors: type[Exception] | int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entry of a route that may answer with these problems, with an example of each.

    A number stands for the framework's own exception with that status code.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        kind = FRAMEWORK[error] if isinstance(error, int) else KINDS[error]
        entry = responses.setdefault(
            kind.status,
            {
                "description": HTTPStatus(kind.status).phrase,
                "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema(), "examples": {}}},
            },
        )
        example = {
            "type": kind.type,
            "title": kind.title,
            "status": kind.status,
            "detail": kind.title if isinstance(error, int) else (error.__doc__ or "").split("\n")[0],
            "request_id": "5f0c9d1e2a7b4c38",
        }
        entry["content"][MEDIA_TYPE]["examples"][kind.name] = {"value": example}
    return responses


def _kind(error: Exception) -> Kind:
    for base in type(error).__mro__:
        if base is HTTPException and isinstance(error, HTTPException):
            status = error.status_code
            return FRAMEWORK.get(status) or Kind(status, f"http-{status}", HTTPStatus(status).phrase)
        if base in KINDS:
            return KINDS[base]
    return KINDS[Exception]


def _detail(error: Exception) -> str:
    if isinstance(error, RequestValidationError):
        return "; ".join(f"{_field(found)}: {_message(found)}" for found in error.errors())
    if isinstance(error, HTTPException):
        return error.detail
    if _kind(error).status == HTTPStatus.INTERNAL_SERVER_ERROR or isinstance(error, MemoryError):
        return DETAILS[MemoryError if isinstance(error, MemoryError) else Exception]
    return str(error)


def _message(found: Mapping[str, Any]) -> str:
    """FastAPI names its own class where text was sent in place of a file."""
    return "an image file is accepted, not text" if "UploadFile" in found["msg"] else str(found["msg"])


def _field(found: Mapping[str, Any]) -> str:
    """("body", "top_k") -> "top_k"."""
    return ".".join(str(part) for part in found["loc"][1:]) or str(found["loc"][0])
