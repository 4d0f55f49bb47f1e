"""Images that come into the collection, and one that leaves it. service/access.py asks for a key that may."""

from typing import Annotated

from fastapi import APIRouter, File, Form, Path, UploadFile

from index import NoSuchImage
from model import BadImage
from service import deps, schemas
from service.collection import Added
from service.errors import (
    BadParameter,
    CanaryFailed,
    CannotChange,
    CollectionBusy,
    DamagedIndex,
    GenerationRefused,
    NotReady,
    TooManyBytes,
    described,
    documented,
)
from service.stages import note
from service.uploads import LONGEST, Upload
from service.workers import Workers

__all__ = ["router"]

MOST = 32  # files in one request
CHANGED = documented(CollectionBusy, CannotChange, GenerationRefused, BadParameter, NotReady, DamagedIndex)

Files = Annotated[
    list[UploadFile], File(min_length=1, max_length=MOST, description=f"1 to {MOST} files; {deps.FORMATS}")
]
Label = Annotated[str, Form(max_length=LONGEST, description="name of the class of all these images; empty for none")]

router = APIRouter(tags=["images"], form_limits={"max_files": MOST, "max_fields": 16, "max_part_size": 4096})


@router.post(
    "/images", responses=CHANGED | documented(TooManyBytes, CanaryFailed), summary="Add images to the collection"
)
async def add(
    files: Files, engine: deps.EngineDep, workers: deps.WorkersDep, changes: deps.ChangesDep, label: Label = ""
) -> schemas.Added:
    """Publish a generation with these images, and answer when they can be found. The originals are kept.

    `results` come in the order of the files. An image that is in the collection already has status 200 and its id,
    a new one 201; each is called by its file's name. What cannot be decoded has its problem, and the others are added.
    """
    label = label.strip()
    if not label.isprintable():
        raise BadParameter("label: a name of a class has printable characters alone")
    sent, problems = dict[int, Upload](), dict[int, Exception]()
    for number, file in enumerate(files):
        try:
            await workers.decode(engine, file)
        except BadImage as error:
            problems[number] = error
        else:
            await file.seek(0)
            sent[number] = Upload(await file.read(), file.filename or "", label)
    found = dict(zip(sent, await changes.add(list(sent.values())), strict=True)) if sent else {}
    results = [_result(problems.get(number) or found[number]) for number in range(len(files))]
    return schemas.Added(results=results, generation=_now(workers))


@router.delete("/images/{image_id}", responses=CHANGED | documented(NoSuchImage), summary="Remove an image")
async def remove(
    image_id: Annotated[int, Path(ge=0, le=deps.LARGEST)], workers: deps.WorkersDep, changes: deps.ChangesDep
) -> schemas.Removed:
    """Publish a generation without this image, and answer when it can no longer be found.

    An original that was sent to POST /images is deleted, too. A file that build_index.py has indexed stays where it is,
    and out of the index until it changes.
    """
    await changes.remove(image_id)
    return schemas.Removed(image_id=image_id, generation=_now(workers))


def _now(workers: Workers) -> int:
    """Return the generation in use now, and say in the answer's header that it is from that one."""
    number = workers.lease.current.engine.manifest.number
    note(generation=number)
    return number


def _result(found: Added | Exception) -> schemas.Result[schemas.AddedImage]:
    if isinstance(found, Exception):
        problem = schemas.Problem(**described(found))
        return schemas.Result(status=problem.status, answer=None, problem=problem)
    answer = schemas.AddedImage(image_id=found.image_id, name=found.name)
    return schemas.Result(status=201 if found.is_new else 200, answer=answer, problem=None)
