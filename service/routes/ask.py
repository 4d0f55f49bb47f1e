"""Questions about an image: its classes, its nearest images, its embedding."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Request, Response

from index import NoSuchImage, NoSuchLabel
from model import BadImage, TooManyPixels
from service import asking, deps, schemas
from service.errors import (
    BadParameter,
    Busy,
    DamagedIndex,
    NotReady,
    TooCostly,
    TooManyBytes,
    TooSlow,
    WrongMediaType,
    documented,
)
from service.vectors import BODY, OCTETS, read_vector

__all__ = ["router"]

Responses = dict[int | str, dict[str, Any]]

UPLOAD = documented(
    BadImage, TooManyPixels, TooCostly, TooManyBytes, TooSlow, BadParameter, NotReady, DamagedIndex, Busy
)
EITHER = UPLOAD | documented(NoSuchImage, NoSuchLabel)
VECTOR = documented(NoSuchLabel, TooManyBytes, WrongMediaType, BadParameter, NotReady, DamagedIndex, Busy)
BINARY: Responses = {
    200: {
        "content": {
            OCTETS: {"schema": {"type": "string", "format": "binary"}},
        },
        "description": f"JSON, or with `Accept: {OCTETS}` 4096 little-endian float32 numbers",
    }
}

router = APIRouter(tags=["images"])


@router.post("/classify", responses=UPLOAD, summary="What is this image?")
async def classify(
    file: deps.ImageUpload, engine: deps.EngineDep, workers: deps.WorkersDep, top_k: deps.TopK, views: deps.ViewsDep
) -> schemas.Classification:
    """The most probable classes of an uploaded image, from its central crop or from the mean over ten crops."""
    return await asking.classified(engine, workers, file, top_k, views)


@router.post("/neighbours", responses=EITHER, summary="Which images of the collection are nearest to it?")
async def neighbours(
    engine: deps.EngineDep,
    workers: deps.WorkersDep,
    wanted: deps.WantedDep,
    image_id: deps.ImageId,
    file: deps.OptionalUpload = None,
) -> schemas.Neighbourhood:
    """The indexed images nearest to an image, by Euclidean distance between embeddings.

    Send an image as `file`, or the `image_id` of an indexed image. An indexed image finds itself, at distance 0. The
    answer is proven, or equal to brute force's, unless `exactness=measured` asks for the quickest one. With `label` the
    nearest images of that label come, `k` of them where it has as many.
    """
    await asking.check_label(engine, wanted.label)
    if file is not None and image_id is None:
        return await asking.of_upload(engine, workers, file, wanted)
    if file is None and image_id is not None:
        return await asking.neighbourhood(engine, workers, image_id, wanted)
    raise BadParameter("send either an image as `file` or the `image_id` of an indexed image, not both or neither")


@router.post(
    "/neighbours/vector",
    responses=VECTOR,
    openapi_extra=BODY,
    summary="Which images of the collection are nearest to an embedding?",
)
async def neighbours_of_vector(
    request: Request, engine: deps.EngineDep, workers: deps.WorkersDep, wanted: deps.WantedInQuery
) -> schemas.Neighbourhood:
    """The indexed images nearest to an embedding, as /neighbours finds them for an image.

    The body is JSON, or the bytes that `/embed` answers with `Accept: application/octet-stream`. The numbers need not
    be an image's: the mean of several embeddings, say. `predictions` come from the network's last layer.
    """
    await asking.check_label(engine, wanted.label)
    features = await read_vector(request, engine.manifest.width)
    return await asking.neighbourhood(engine, workers, features, wanted)


@router.post(
    "/embed",
    response_model=schemas.Embedding,
    responses=UPLOAD | BINARY,
    summary="What is the embedding of this image?",
)
async def embed(
    file: deps.ImageUpload,
    engine: deps.EngineDep,
    workers: deps.WorkersDep,
    accept: Annotated[str, Header(description="application/json or application/octet-stream")] = "application/json",
) -> schemas.Embedding | Response:
    """The embedding of an uploaded image: the activations of the network's last hidden layer, fc7, after ReLU."""
    features = await asking.embedded(engine, workers, file)
    if OCTETS in accept:
        data = np.ascontiguousarray(features, "<f4").tobytes()
        return Response(data, media_type=OCTETS, headers={"X-Fc7-Model": engine.model})
    return schemas.Embedding(embedding=features.tolist(), model=engine.model)
