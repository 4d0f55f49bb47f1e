"""The images of the collection: one by chance, a thumbnail."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response

from index import NoSuchImage
from model import thumbnail_type
from service import deps, schemas
from service.answers import indexed, version
from service.errors import BadParameter, Busy, DamagedIndex, NotReady, documented

__all__ = ["router"]

STORED = documented(NoSuchImage, BadParameter, NotReady, DamagedIndex)
IMAGES: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/png", "image/jpeg")}}
}

router = APIRouter(tags=["images"])


@router.get(
    "/images/random", responses=documented(NotReady, DamagedIndex, Busy), summary="A random image of the collection"
)
async def random_image(
    engine: deps.EngineDep, workers: deps.WorkersDep, rng: deps.RandomDep, response: Response
) -> schemas.IndexedImage:
    """One indexed image, all equally likely, and what the network sees in it."""
    image = engine.any_indexed(rng)
    with workers.admitted():
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
    forever = "public, max-age=31536000, immutable" if v == version(found) else "no-cache"
    headers = {"ETag": f'"{found.sha256}"', "Cache-Control": forever, "X-Content-Type-Options": "nosniff"}
    if headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(found.thumbnail, media_type=thumbnail_type(found.thumbnail), headers=headers)
