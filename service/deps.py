"""The routes' dependencies: the workers, and parameters that may be form fields or in the query string."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Literal

import numpy as np
from fastapi import Depends, File, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError

from service.changes import Changes
from service.engine import Engine
from service.errors import NotReady
from service.metrics import Metrics
from service.readiness import damaged
from service.reloading import Reloading
from service.stages import note
from service.workers import Workers

__all__ = [
    "AnyWorkersDep",
    "ChangesDep",
    "EngineDep",
    "ImageId",
    "ImageUpload",
    "LoadedDep",
    "MetricsDep",
    "OptionalUpload",
    "RandomDep",
    "ReloadingDep",
    "TopK",
    "Views",
    "ViewsDep",
    "Wanted",
    "WantedDep",
    "WantedInQuery",
    "WorkersDep",
]

MOST = 1000  # classes in one answer
LARGEST = 2**63 - 1  # the largest image id, an int64
NUMBER = "number of neighbours in the answer, nearest first; at most 100, or what --max-k says"
HOW = (
    "certified: a proven answer; measured: the quickest, whose recall is known; it is proven, too, under a label, and "
    "where the build measured none"
)
LABEL = "find images of this label alone: the nearest of them, as far as they may be; /labels lists all"
FORMATS = "JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, PPM or JPEG 2000"


Asked = Literal["certified", "measured"]


class Views(IntEnum):
    """Number of crops of the image that the network gets."""

    ONE = 1
    TEN = 10


async def any_workers(request: Request) -> Workers | None:
    """Return the workers, None while the engine is being loaded."""
    found: Workers | None = request.app.state.workers
    return found


async def loaded(workers: Annotated[Workers | None, Depends(any_workers)]) -> Workers:
    """Return the workers, whatever their index is worth. Raises NotReady while the engine is being loaded."""
    if workers is None:
        raise NotReady
    return workers


async def workers(loaded: Annotated[Workers, Depends(loaded)]) -> Workers:
    """Return the workers. Raises NotReady, and DamagedIndex: wrong answers are worse than none."""
    if error := damaged(loaded):
        raise error
    return loaded


async def engine(workers: Annotated[Workers, Depends(workers)]) -> AsyncIterator[Engine]:
    """Give the engine in use, and hold it until the route has made its answer."""
    with workers.lease.hold() as served:
        note(generation=served.engine.manifest.number)
        yield served.engine


async def reloading(request: Request, _: Annotated[Workers, Depends(loaded)]) -> Reloading:
    """Return what puts new generations to use. Raises NotReady."""
    found: Reloading = request.app.state.reloading
    return found


async def changes(request: Request, _: Annotated[Workers, Depends(workers)]) -> Changes:
    """Return what changes the collection. Raises NotReady, DamagedIndex."""
    found: Changes = request.app.state.changes
    return found


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
    k: Annotated[int, Form(ge=1, description=NUMBER)] = 6,
    in_query: Annotated[int | None, Query(alias="k", ge=1, include_in_schema=False)] = None,
) -> int:
    """Return the number of neighbours. Raises RequestValidationError."""
    return _allowed(request, k if in_query is None else in_query)


async def exactness(
    exactness: Annotated[Asked, Form(description=HOW)] = "certified",
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


async def label(
    label: Annotated[str | None, Form(description=LABEL)] = None,
    in_query: Annotated[str | None, Query(alias="label", include_in_schema=False)] = None,
) -> str | None:
    return label if in_query is None else in_query


@dataclass(frozen=True)
class Wanted:
    """Which neighbours."""

    k: int
    exactness: Asked
    label: str | None


async def wanted(
    k: Annotated[int, Depends(k)],
    exactness: Annotated[Asked, Depends(exactness)],
    label: Annotated[str | None, Depends(label)],
) -> Wanted:
    return Wanted(k, exactness, label)


async def wanted_in_query(
    request: Request,
    k: Annotated[int, Query(ge=1, description=NUMBER)] = 6,
    exactness: Annotated[Asked, Query(description=HOW)] = "certified",
    label: Annotated[str | None, Query(description=LABEL)] = None,
) -> Wanted:
    return Wanted(_allowed(request, k), exactness, label)


def _allowed(request: Request, k: int) -> int:
    """Raises RequestValidationError where k is more than the setting max_k."""
    most = request.app.state.max_k
    if k > most:
        raise RequestValidationError([{"loc": ("form", "k"), "msg": f"Input should be less than or equal to {most}"}])
    return k


AnyWorkersDep = Annotated[Workers | None, Depends(any_workers)]
LoadedDep = Annotated[Workers, Depends(loaded)]
WorkersDep = Annotated[Workers, Depends(workers)]
EngineDep = Annotated[Engine, Depends(engine, scope="function")]
ChangesDep = Annotated[Changes, Depends(changes)]
ReloadingDep = Annotated[Reloading, Depends(reloading)]
MetricsDep = Annotated[Metrics, Depends(metrics)]
RandomDep = Annotated[np.random.Generator, Depends(rng)]
ImageUpload = Annotated[UploadFile, File(description=FORMATS)]
OptionalUpload = Annotated[UploadFile | None, File(description=FORMATS)]
TopK = Annotated[int, Depends(top_k)]
ViewsDep = Annotated[Views, Depends(views)]
WantedDep = Annotated[Wanted, Depends(wanted)]
WantedInQuery = Annotated[Wanted, Depends(wanted_in_query)]
ImageId = Annotated[int | None, Depends(image_id)]
