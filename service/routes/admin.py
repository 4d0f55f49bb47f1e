"""What an operator asks of a running service. service/access.py asks for a key that may."""

from fastapi import APIRouter

from service import deps, schemas
from service.errors import GenerationRefused, NotReady, documented

__all__ = ["router"]

router = APIRouter(prefix="/admin", tags=["operations"])


@router.post("/reload", responses=documented(GenerationRefused, NotReady), summary="Use the current generation now")
async def reload(workers: deps.LoadedDep, reloading: deps.ReloadingDep) -> schemas.Reloaded:
    """Put the bundle's current generation to use. The answer comes when new requests get it, or when it was refused.

    Not needed as a rule: the service looks every second whether one was published. One that was refused is tried again.
    """
    swapped = await reloading.reload()
    return schemas.Reloaded(generation=workers.lease.current.engine.manifest.number, swapped=swapped)
