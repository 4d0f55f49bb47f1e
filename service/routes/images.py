"""The images of the collection: a list, its labels, one by chance, a thumbnail."""

from bisect import bisect_right
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Path, Query, Response

from index import NoSuchImage, NoSuchLabel
from model import thumbnail_type
from service import deps, schemas
from service.answers import indexed, listed, version
from service.errors import BadParameter, Busy, DamagedIndex, NotReady, documented

__all__ = ["router"]

MOST_IMAGES, MOST_LABELS = 100, 1000  # on one page
LISTED = documented(NoSuchLabel, BadParameter, NotReady, DamagedIndex)
STORED = documented(NoSuchImage, BadParameter, NotReady, DamagedIndex)
IMAGES: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/png", "image/jpeg")}}
}

router = APIRouter(tags=["images"])


@router.get("/images", responses=LISTED, summary="The images of the collection")
def images(
    engine: deps.EngineDep,
    label: Annotated[str | None, Query(description="list the images of this label alone")] = None,
    after: Annotated[
        int | None, Query(ge=0, le=deps.LARGEST, description="list ids above this one: `next` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_IMAGES, description="images on a page")] = 30,
) -> schemas.ImagePage:
    """The images of the collection by ascending image id, a page at a time; of one label, if you wish.

    Image ids only grow, and none is used twice: a list that is read while the collection changes has no image twice.
    """
    ids = engine.images(label)
    first = 0 if after is None else int(np.searchsorted(ids, after, side="right"))
    page = ids[first : first + limit].tolist()
    more = first + limit < len(ids)
    return schemas.ImagePage(
        images=[listed(engine.indexed(image_id)) for image_id in page],
        next=page[-1] if more else None,
        total=len(ids),
        generation=engine.manifest.number,
    )


@router.get("/labels", responses=documented(BadParameter, NotReady, DamagedIndex), summary="The collection's labels")
def labels(
    engine: deps.EngineDep,
    after: Annotated[str | None, Query(description="list names behind this one: `next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LABELS, description="labels on a page")] = MOST_LABELS,
) -> schemas.LabelPage:
    """The labels of the collection in the order of their names, and how many images have each."""
    known = engine.labels
    first = 0 if after is None else bisect_right(known.names, after)
    page = known.names[first : first + limit]
    more = first + limit < len(known.names)
    return schemas.LabelPage(
        labels=[schemas.Label(label=name, images=len(known.images(name))) for name in page],
        next=page[-1] if more else None,
        total=len(known.names),
        unlabelled=known.unlabelled,
        generation=engine.manifest.number,
    )


@router.get(
    "/images/random", responses=documented(NotReady, DamagedIndex, Busy), summary="A random image of the collection"
)
async def random_image(
    engine: deps.EngineDep, workers: deps.WorkersDep, rng: deps.RandomDep, response: Response
) -> schemas.IndexedImage:
    """One indexed image, all equally likely, and what the network sees in it."""
    image = engine.any_indexed(rng)
    predicted = await workers.predicted(engine, image.image_id)
    response.headers["Cache-Control"] = "no-store"
    return schemas.IndexedImage(**indexed(engine, image, predicted))


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
    forever = "private, max-age=31536000, immutable" if v == version(found) else "no-cache"
    headers = {"ETag": f'"{found.sha256}"', "Cache-Control": forever}
    if headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(found.thumbnail, media_type=thumbnail_type(found.thumbnail), headers=headers)
