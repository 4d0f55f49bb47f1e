"""Several images in one request: each gets its own answer or its own problem."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, File, UploadFile
from pydantic import BaseModel

from index import NoSuchLabel
from service import asking, deps, schemas
from service.errors import KINDS, BadParameter, Busy, DamagedIndex, NotReady, TooManyBytes, described, documented

__all__ = ["router"]

MOST = 32  # files in one request
AT_ONCE = 8  # of them that are decoded or wait for the network: one request leaves room for others

A = TypeVar("A", bound=BaseModel)
Files = Annotated[
    list[UploadFile], File(min_length=1, max_length=MOST, description=f"1 to {MOST} files; {deps.FORMATS}")
]
REFUSED = documented(400, TooManyBytes, BadParameter, NotReady, DamagedIndex, Busy)

router = APIRouter(tags=["images"], form_limits={"max_files": MOST, "max_fields": 16, "max_part_size": 4096})


def _answers(kind: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entry of a route that answers with this kind for each image."""
    answer = kind.model_config["json_schema_extra"]["example"]  # type: ignore[index]
    bad = {
        "type": "urn:fc7:problem:not-an-image",
        "title": "Not an image",
        "status": 400,
        "detail": "cannot decode 12 bytes: not an image of a known format",
        "request_id": "5f0c9d1e2a7b4c38",
        "errors": None,
    }
    results = [{"status": 200, "answer": answer, "problem": None}, {"status": 400, "answer": None, "problem": bad}]
    return REFUSED | {200: {"content": {"application/json": {"example": {"results": results}}}}}


@router.post("/classify/many", responses=_answers(schemas.Classification), summary="What are these images?")
async def classify(
    files: Files, engine: deps.EngineDep, workers: deps.WorkersDep, top_k: deps.TopK, views: deps.ViewsDep
) -> schemas.Many[schemas.Classification]:
    """As /classify, for several files. `results` come in their order, each with the status that it has alone."""
    return await _each(files, lambda file: asking.classified(engine, workers, file, top_k, views))


@router.post(
    "/neighbours/many",
    responses=_answers(schemas.Neighbourhood) | documented(NoSuchLabel),
    summary="Which images of the collection are nearest to these?",
)
async def neighbours(
    files: Files, engine: deps.EngineDep, workers: deps.WorkersDep, wanted: deps.WantedDep
) -> schemas.Many[schemas.Neighbourhood]:
    """As /neighbours, for several files. `results` come in their order, each with the status that it has alone."""
    await asking.check_label(engine, wanted.label)
    return await _each(files, lambda file: asking.of_upload(engine, workers, file, wanted))


@router.post(
    "/embed/many",
    responses=_answers(schemas.Embedding),
    summary="What are the embeddings of these images?",
)
async def embed(files: Files, engine: deps.EngineDep, workers: deps.WorkersDep) -> schemas.Many[schemas.Embedding]:
    """As /embed, for several files. `results` come in their order, each with the status that it has alone."""

    async def embedded(file: UploadFile) -> schemas.Embedding:
        features = await asking.embedded(engine, workers, file)
        return schemas.Embedding(embedding=features.tolist(), model=engine.model)

    return await _each(files, embedded)


async def _each(files: Sequence[UploadFile], answer: Callable[[UploadFile], Awaitable[A]]) -> schemas.Many[A]:
    """Answer for all files side by side. What one of them raises is its own problem.

    Searches that read all rows have few places (--max-slow), which files of one request may take from each other: those
    that found none are asked again one by one, so that each has the status that it has alone.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(file: UploadFile) -> schemas.Result[A]:
        async with turn:
            try:
                return schemas.Result(status=200, answer=await answer(file), problem=None)
            except Exception as error:
                problem = schemas.Problem(**described(error))
                if problem.status == 500:
                    logging.getLogger(__name__).exception("one of several images failed")
                return schemas.Result(status=problem.status, answer=None, problem=problem)

    results = await asyncio.gather(*map(one, files))
    for place, result in enumerate(results):
        if result.problem and result.problem.type == KINDS[Busy].type:
            await files[place].seek(0)
            results[place] = await one(files[place])
    return schemas.Many(results=results)
