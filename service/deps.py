"""The routes' dependencies: the workers, and parameters that may be form fields or in the query string."""

from collections.abc import AsyncIterator
from enum import IntEnum
from typing import Annotated, Literal

import numpy as np
from fastapi import Depends, File, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError

from service.engine import Engine
from service.errors import DamagedIndex, NotReady
from service.metrics import Metrics
from service.stages import note
from service.workers import Workers

__all__ = [
    "EngineDep",
    "Exactness",
    "ImageId",
    "ImageUpload",
    "K",
    "LoadedDep",
    "MetricsDep",
    "OptionalUpload",
    "RandomDep",
    "TopK",
    "Views",
    "ViewsDep",
    "WorkersDep",
]

MOST = 1000  # classes in one answer
LARGEST = 2**63 - 1  # the largest image id, an int64
FORMATS = "JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, PPM or JPEG 2000"


Asked = Literal["certified", "measured"]


class Views(IntEnum):
    """Number of crops of the image that the network gets."""

    ONE = 1
    TEN = 10


async def loaded(request: Request) -> Workers:
    """Return the workers, whatever their index is worth. Raises NotReady while the engine is being loaded."""
    found: Workers | None = request.app.state.workers
    if found is None:
        raise NotReady("the network and the index are still being loaded; try again in a moment")
    return found


async def workers(loaded: Annotated[Workers, Depends(loaded)]) -> Workers:
    """Return the workers. Raises NotReady, and DamagedIndex: wrong answers are worse than none."""
    damaged = loaded.lease.current.verification.damaged
    if damaged is not None:
        raise DamagedIndex(damaged)
    return loaded


async def engine(workers: Annotated[Workers, Depends(workers)]) -> AsyncIterator[Engine]:
    """Give the engine in use, and hold it until the route has made its answer."""
    with workers.lease.hold() as served:
        note(generation=served.engine.manifest.number)
        yield served.engine


async def metrics(request: Request) -> Metrics:
    found: Metrics = request.app.state.metrics
    return found


async def rng(request: Request) -> np.random.Generator:
    found: np.random.Generator = request.app.state.rng
    return found


# A parameter in the query string wins over a form field. OpenAPI shows the form field only.


async def top_k(
    top_k: Annotated[int, Form(ge=1, le=MOST, description="number of classes in the answer, most probable first")] = 5,
    in_query: Annotated[int | None, Query(alias="top_k", ge=1, le=MOST, include_in_schema=False)] = None,
) -> int:
    return top_k if in_query is None else in_query


async def views(
    views: Annotated[
        Views,
        Form(description="1: the central crop; 10: the mean over ten crops (corners, centre and their mirror images)"),
    ] = Views.ONE,
    in_query: Annotated[Views | None, Query(alias="views", include_in_schema=False)] = None,
) -> Views:
    return views if in_query is None else in_query


async def k(
    request: Request,
    k: Annotated[
        int,
        Form(ge=1, description="number of neighbours in the answer, nearest first; at most 100, or what --max-k says"),
    ] = 6,
    in_query: Annotated[int | None, Query(alias="k", ge=1, include_in_schema=False)] = None,
) -> int:
    """Return the number of neighbours. Raises RequestValidationError where it is more than the setting max_k."""
    asked, most = k if in_query is None else in_query, request.app.state.max_k
    if asked > most:
        raise RequestValidationError([{"loc": ("form", "k"), "msg": f"Input should be less than or equal to {most}"}])
    return asked


async def exactness(
    exactness: Annotated[
        Asked,
        Form(
            description="certified: a proven answer; measured: the quickest, whose recall is known; it is certified, "
            "too, where the build measured none"
        ),
    ] = "certified",
    in_query: Annotated[Asked | None, Query(alias="exactness", include_in_schema=False)] = None,
) -> Asked:
    return exactness if in_query is None else in_query


async def image_id(
    image_id: Annotated[
        int | None, Form(ge=0, le=LARGEST, description="id of an indexed image, in place of `file`")
    ] = None,
    in_query: Annotated[int | None, Query(alias="image_id", ge=0, le=LARGEST, include_in_schema=False)] = None,
) -> int | None:
    return image_id if in_query is None else in_query


LoadedDep = Annotated[Workers, Depends(loaded)]
WorkersDep = Annotated[Workers, Depends(workers)]
EngineDep = Annotated[Engine, Depends(engine, scope="function")]
MetricsDep = Annotated[Metrics, Depends(metrics)]
RandomDep = Annotated[np.random.Generator, Depends(rng)]
ImageUpload = Annotated[UploadFile, File(description=FORMATS)]
OptionalUpload = Annotated[UploadFile | None, File(description=FORMATS)]
TopK = Annotated[int, Depends(top_k)]
ViewsDep = Annotated[Views, Depends(views)]
K = Annotated[int, Depends(k)]
Exactness = Annotated[Asked, Depends(exactness)]
ImageId = Annotated[int | None, Depends(image_id)]
