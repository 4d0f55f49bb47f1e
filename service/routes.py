"""The routes that answer questions about images: classes, neighbours, embedding, thumbnails."""

from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Path, Query, Response
from numpy.typing import NDArray

from index import Image, NoSuchImage
from model import BadImage, TooManyPixels, thumbnail_type
from service import deps, schemas
from service.engine import SHORT, Engine, Found, Predicted
from service.errors import BadParameter, Busy, DamagedIndex, NotReady, TooManyBytes, documented

__all__ = ["router"]

Responses = dict[int | str, dict[str, Any]]

EMBEDDING = "application/octet-stream"
UPLOAD = documented(BadImage, TooManyPixels, TooManyBytes, BadParameter, NotReady, DamagedIndex, Busy)
STORED = documented(NoSuchImage, BadParameter, NotReady, DamagedIndex)
EITHER = UPLOAD | documented(NoSuchImage)
BINARY: Responses = {
    200: {
        "content": {
            EMBEDDING: {"schema": {"type": "string", "format": "binary"}},
        },
        "description": f"JSON, or with `Accept: {EMBEDDING}` 4096 little-endian float32 numbers",
    }
}
IMAGES: Responses = {
    200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/png", "image/jpeg")}}
}

router = APIRouter(tags=["images"])


@router.post("/classify", responses=UPLOAD, summary="What is this image?")
async def classify(
    file: deps.ImageUpload, workers: deps.WorkersDep, top_k: deps.TopK, views: deps.ViewsDep
) -> schemas.Classification:
    """The most probable classes of an uploaded image, from its central crop or from the mean over ten crops."""
    engine = workers.engine
    infer = engine.ten_views if views is deps.Views.TEN else lambda image: engine.infer(image).probabilities
    probabilities = await workers.infer_upload(file, infer)
    return schemas.Classification(predictions=_best(probabilities, engine.classes, top_k), model=engine.model)


@router.post("/neighbours", responses=EITHER, summary="Which images of the collection are nearest to it?")
async def neighbours(
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
    engine = workers.engine
    asked = image_id if file is None else file
    if asked is None or (file is not None and image_id is not None):
        raise BadParameter("send either an image as `file` or the `image_id` of an indexed image, not both or neither")
    inference, nearest = await workers.nearest(asked, k, measured=exactness == "measured")
    itself = None if image_id is None else engine.indexed(image_id)
    recall = engine.recall["measured"] if nearest.exactness == "measured" else None
    return schemas.Neighbourhood(
        predictions=_best(inference.probabilities, engine.classes, 5),
        neighbours=[_neighbour(engine, rank, near) for rank, near in enumerate(nearest.found, 1)],
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
    workers: deps.WorkersDep,
    accept: Annotated[str, Header(description="application/json or application/octet-stream")] = "application/json",
) -> schemas.Embedding | Response:
    """The embedding of an uploaded image: the activations of the network's last hidden layer, fc7, after ReLU."""
    engine = workers.engine
    inference = await workers.infer_upload(file, engine.infer)
    if EMBEDDING in accept:
        data = np.ascontiguousarray(inference.features, "<f4").tobytes()
        return Response(data, media_type=EMBEDDING, headers={"X-Fc7-Model": engine.model})
    return schemas.Embedding(embedding=inference.features.tolist(), model=engine.model)


@router.get(
    "/images/random", responses=documented(NotReady, DamagedIndex, Busy), summary="A random image of the collection"
)
async def random_image(workers: deps.WorkersDep, rng: deps.RandomDep, response: Response) -> schemas.IndexedImage:
    """One indexed image, all equally likely, and what the network sees in it."""
    engine = workers.engine
    image = engine.any_indexed(rng)
    predicted = await workers.infer_indexed(image.image_id, lambda row: engine.predicted(np.array([row]))[0])
    response.headers["Cache-Control"] = "no-store"
    return schemas.IndexedImage(**_indexed(engine, image, predicted))


@router.get(
    "/images/{image_id}",
    response_class=Response,
    responses=STORED | IMAGES,
    summary="The thumbnail of an indexed image",
)
def image(
    engine: deps.EngineDep,
    image_id: Annotated[int, Path(ge=0, le=deps.LARGEST)],
    v: Annotated[str | None, Query(description="version of the thumbnail, as in the address in `thumbnail`")] = None,
    if_none_match: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """The thumbnail of an indexed image.

    The address in `thumbnail` says with `v` what the thumbnail holds: another thumbnail has another address, so the
    answer may be cached for ever.
    """
    found = engine.indexed(image_id)
    forever = "public, max-age=31536000, immutable" if v == _version(found) else "no-cache"
    headers = {"ETag": f'"{found.sha256}"', "Cache-Control": forever, "X-Content-Type-Options": "nosniff"}
    if headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(found.thumbnail, media_type=thumbnail_type(found.thumbnail), headers=headers)


def _best(probabilities: NDArray[np.float32], classes: tuple[str, ...], k: int) -> list[schemas.Prediction]:
    """Return the k most probable classes, ties by class id."""
    best = np.argsort(-probabilities, kind="stable")[:k]
    return [
        schemas.Prediction(label=classes[row], class_id=int(row), probability=float(probabilities[row])) for row in best
    ]


def _neighbour(engine: Engine, rank: int, found: Found) -> schemas.Neighbour:
    return schemas.Neighbour(rank=rank, distance=found.distance, **_indexed(engine, found.image, found.predicted))


def _indexed(engine: Engine, image: Image, predicted: Predicted) -> dict[str, Any]:
    """Return the fields of schemas.IndexedImage."""
    return {
        "image_id": image.image_id,
        "name": image.name,
        "names": image.names[: schemas.NAMES],
        "names_count": len(image.names),
        "label": image.label,
        "predicted": schemas.Prediction(
            label=engine.classes[predicted.class_id],
            class_id=predicted.class_id,
            probability=predicted.probability,
        ),
        "thumbnail": f"/images/{image.image_id}?v={_version(image)}",
    }


def _version(image: Image) -> str:
    """Return the first digits of the thumbnail's SHA-256: they differ where thumbnails do."""
    return image.sha256[:SHORT]
