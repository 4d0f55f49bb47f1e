"""A vector as a request's body: JSON, or little-endian float32 numbers as /embed gives them."""

import numpy as np
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import TooManyBytes, WrongMediaType

__all__ = ["BODY", "OCTETS", "read_vector"]

OCTETS, JSON = "application/octet-stream", "application/json"
LIMIT = 131_072  # bytes of a body: 32 for each of 4096 numbers
LARGEST = 1e15  # beyond any embedding; sums of 4096 squares, and the last layer's sums, are finite in float32


class Vector(BaseModel):
    """An embedding that is sent."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"example": {"embedding": [0.0, 1.25, 0.0, 0.5]}})
    embedding: list[float] = Field(description="4096 numbers from -1e15 to 1e15, as /embed gives them")


BODY = {  # of the route in OpenAPI, which FastAPI cannot tell from a function that reads the body itself
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": Vector.model_json_schema()},
            OCTETS: {"schema": {"type": "string", "format": "binary", "description": "little-endian float32"}},
        },
    }
}


async def read_vector(request: Request, width: int) -> NDArray[np.float32]:
    """Return the features (width,). Raises WrongMediaType, TooManyBytes, RequestValidationError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (JSON, OCTETS):
        raise WrongMediaType(JSON, OCTETS)
    body = await _body(request)
    found = _from_json(body) if kind == JSON else _from_bytes(body)
    if len(found) != width:
        raise _refused(f"{width} numbers are accepted, not {len(found)}")
    if not np.isfinite(found).all():
        raise _refused("finite float32 numbers are accepted, not infinite ones or NaN")
    if np.abs(found).max(initial=0.0) > LARGEST:
        raise _refused(f"numbers from {-LARGEST:g} to {LARGEST:g} are accepted")
    return found


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LIMIT:
            raise TooManyBytes(LIMIT)
    return bytes(body)


def _from_json(body: bytes) -> NDArray[np.float32]:
    try:
        numbers = Vector.model_validate_json(body).embedding
    except ValidationError as error:
        found = error.errors(include_url=False)[0]  # of thousands of numbers each may be wrong
        raise RequestValidationError([{**found, "loc": ("body", *found["loc"])}]) from error
    with np.errstate(over="ignore"):  # then it is infinite, and refused
        return np.array(numbers, np.float64).astype(np.float32)


def _from_bytes(body: bytes) -> NDArray[np.float32]:
    if len(body) % 4:
        raise _refused(f"whole float32 numbers of four bytes are accepted, not {len(body)} bytes")
    return np.frombuffer(body, "<f4").astype(np.float32)


def _refused(message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", "embedding"), "msg": message}])
