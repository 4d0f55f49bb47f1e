"""Routes for those who run the service: alive, ready, which version, how busy."""

from importlib.metadata import version as installed

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service import deps, schemas
from service.errors import NotReady, documented

__all__ = ["router"]

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Does the process answer?")
async def healthz() -> schemas.Alive:
    """Answers as long as the process can answer at all; says nothing of the network."""
    return schemas.Alive()


@router.get("/readyz", responses=documented(NotReady), summary="Will it answer questions?")
async def readyz(_: deps.WorkersDep) -> schemas.Ready:
    """Answers 503 until the network and the index are loaded and checked."""
    return schemas.Ready()


@router.get("/version", responses=documented(NotReady), summary="What exactly answers?")
async def version(engine: deps.EngineDep) -> schemas.Version:
    """Fingerprints of the network and of the index."""
    manifest, checkpoint = engine.manifest, engine.checkpoint
    return schemas.Version(
        version=installed("fc7"),
        model=schemas.ModelVersion(
            table=checkpoint.table.name,
            weights=manifest.inputs["weights"],
            recipe=manifest.inputs["recipe"],
            precision=checkpoint.recipe.precision,
            device=engine.device,
            classes=list(engine.classes),
        ),
        generation=schemas.GenerationVersion(
            number=manifest.number,
            created=manifest.created,
            images=manifest.rows,
            width=manifest.width,
            device=engine.search_device,
            fingerprints=dict(manifest.fingerprints),
        ),
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"example": 'fc7_requests_total{route="/classify",status="200"} 12.0'}}}
    },
    summary="How busy is it?",
)
async def metrics(numbers: deps.MetricsDep) -> Response:
    """Counts and times in the Prometheus text format."""
    return Response(numbers.text(), media_type=CONTENT_TYPE_LATEST)
