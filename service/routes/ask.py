"""Questions about an image: its classes, its nearest images, its embedding."""

from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Response
from numpy.typing import NDArray

from index import NoSuchImage
from model import BadImage, TooManyPixels
from service import deps, schemas
from service.answers import best, neighbour
from service.errors import BadParameter, Busy, DamagedIndex, NotReady, TooManyBytes, TooSlow, documented

__all__ = ["router"]

Responses = dict[int | str, dict[str, Any]]

EMBEDDING = "application/octet-stream"
UPLOAD = documented(BadImage, TooManyPixels, TooManyBytes, TooSlow, BadParameter, NotReady, DamagedIndex, Busy)
EITHER = UPLOAD | documented(NoSuchImage)
BINARY: Responses = {
    200: {
        "content": {
            EMBEDDING: {"schema": {"type": "string", "format": "binary"}},
        },
        "description": f"JSON, or with `Accept: {EMBEDDING}` 4096 little-endian float32 numbers",
    }
}

router = APIRouter(tags=["images"])


@router.post("/classify", responses=UPLOAD, summary="What is this image?")
async def classify(
    file: deps.ImageUpload, engine: deps.EngineDep, workers: deps.WorkersDep, top_k: deps.TopK, views: deps.ViewsDep
) -> schemas.Classification:
    """The most probable classes of an uploaded image, from its central crop or from the mean over ten crops."""
    image = await workers.decode(engine, file)
    if views is deps.Views.TEN:
        probabilities = await workers.ten_views(engine, image)
    else:
        probabilities = (await workers.infer(engine, image)).probabilities
    return schemas.Classification(predictions=best(probabilities, engine.classes, top_k), model=engine.model)


@router.post("/neighbours", responses=EITHER, summary="Which images of the collection are nearest to it?")
async def neighbours(
    engine: deps.EngineDep,
    workers: deps.WorkersDep,
    k: deps.K,
    exactness: deps.Exactness,
    image_id: deps.ImageId,
    file: deps.OptionalUpload = None,
) -> schemas.Neighbourhood:
    """The indexed images nearest to an image, by Euclidean distance between embeddings.

    Send an image as `file`, or the `image_id` of an indexed image. An indexed image finds itself, at distance 0. The
    answer is proven, or equal to brute force's, unless `exactness=measured` asks for the quickest one.
    """
    if file is not None and image_id is None:
        asked: NDArray[np.uint8] | int = await workers.decode(engine, file)
    elif file is None and image_id is not None:
        asked = image_id
    else:
        raise BadParameter("send either an image as `file` or the `image_id` of an indexed image, not both or neither")
    inference, nearest = await workers.nearest(engine, asked, k, measured=exactness == "measured")
    itself = None if image_id is None else engine.indexed(image_id)
    recall = engine.recall["measured"] if nearest.exactness == "measured" else None
    return schemas.Neighbourhood(
        predictions=best(inference.probabilities, engine.classes, 5),
        neighbours=[neighbour(engine, rank, near) for rank, near in enumerate(nearest.found, 1)],
        name=itself.name if itself else None,
        true_label=itself.label if itself else None,
        exactness=nearest.exactness,
        recall=None if recall is None else schemas.Recall(**asdict(recall)),
        generation=engine.manifest.number,
        model=engine.model,
    )


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
    inference = await workers.infer(engine, await workers.decode(engine, file))
    if EMBEDDING in accept:
        data = np.ascontiguousarray(inference.features, "<f4").tobytes()
        return Response(data, media_type=EMBEDDING, headers={"X-Fc7-Model": engine.model})
    return schemas.Embedding(embedding=inference.features.tolist(), model=engine.model)
