"""The map of the collection."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from service import deps
from service.errors import BadParameter, DamagedIndex, NotReady, documented
from service.map import NoMap

__all__ = ["router"]

BINARY = "application/octet-stream"
MAP: dict[int | str, dict[str, Any]] = {
    200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}},
}

router = APIRouter(tags=["images"])


@router.get(
    "/map",
    response_class=Response,
    responses=MAP | documented(NoMap, BadParameter, NotReady, DamagedIndex),
    summary="Where each image lies on the map",
)
def whole_map(engine: deps.EngineDep, if_none_match: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
    """A position in the plane for every image: images that look alike to the network mostly lie together.

    The answer is binary, little-endian. A uint32 says how many bytes of JSON follow: `generation`, `kind` (`pca` or
    `umap`), `images` (n), `first_id`, `labels`. Then come n uint32, each image id's distance from the one before; n
    pairs of uint16, x and y on one scale; n uint16, places in `labels`, 65535 without one.
    """
    data = engine.map
    headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Cache-Control": "no-cache"}
    if headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=BINARY, headers=headers)
