"""From an image to the answer about it: what a route for one image and a route for several do alike."""

from dataclasses import asdict

import numpy as np
from fastapi import UploadFile
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray

from service import schemas
from service.answers import best, neighbour
from service.deps import Views, Wanted
from service.engine import Engine
from service.workers import Workers

__all__ = ["check_label", "classified", "embedded", "neighbourhood", "of_upload"]


async def classified(
    engine: Engine, workers: Workers, file: UploadFile, top_k: int, views: Views
) -> schemas.Classification:
    """Raises BadImage, TooManyPixels, Busy."""
    image = await workers.decode(engine, file)
    if views is Views.TEN:
        probabilities = await workers.ten_views(engine, image)
    else:
        probabilities = (await workers.infer(engine, image)).probabilities
    return schemas.Classification(predictions=best(probabilities, engine.classes, top_k), model=engine.model)


async def embedded(engine: Engine, workers: Workers, file: UploadFile) -> NDArray[np.float32]:
    """Return the features (F,). Raises BadImage, TooManyPixels, Busy."""
    return (await workers.infer(engine, await workers.decode(engine, file))).features


async def check_label(engine: Engine, label: str | None) -> None:
    """Raises NoSuchLabel. The labels are read for the first question about one, which may take seconds."""
    if label is not None:
        await run_in_threadpool(engine.images, label)


async def of_upload(engine: Engine, workers: Workers, file: UploadFile, wanted: Wanted) -> schemas.Neighbourhood:
    """Raises BadImage, TooManyPixels, Busy."""
    return await neighbourhood(engine, workers, await workers.decode(engine, file), wanted)


async def neighbourhood(
    engine: Engine, workers: Workers, asked: NDArray[np.uint8] | NDArray[np.float32] | int, wanted: Wanted
) -> schemas.Neighbourhood:
    """asked: a stored image (S, S, 3) uint8, features (F,), or the id of an indexed image. Raises NoSuchImage, Busy."""
    measured = wanted.exactness == "measured"
    inference, nearest = await workers.nearest(engine, asked, wanted.k, measured=measured, label=wanted.label)
    itself = engine.indexed(asked) if isinstance(asked, int) else None
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
