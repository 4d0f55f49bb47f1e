"""Routes for operators: liveness, readiness, version, metrics."""

from dataclasses import asdict
from importlib.metadata import version as installed

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service import deps, readiness, schemas
from service.errors import UNREADY, NotReady, documented

__all__ = ["router"]

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> schemas.Alive:
    """Answers 200 as soon as the process runs, also while the network and the index are still being loaded."""
    return schemas.Alive()


@router.get("/readyz", responses=documented(*UNREADY), summary="Is the service ready?")
async def readyz(workers: deps.AnyWorkersDep) -> schemas.Ready:
    """Answers 503 until the network and the index are loaded, then 200; and 503 once a file of the index is damaged,
    while an indexed image no longer gives the features that are indexed, or while a process that decodes images has
    ended and cannot be replaced.

    The files are read after the start, in the background; /version says whether all were. `serve.py --verify` reads
    them before it is ready.
    """
    if error := readiness.unready(workers):
        raise error
    return schemas.Ready()


@router.get("/version", responses=documented(NotReady), summary="Which network and which index are in use?")
async def version(workers: deps.LoadedDep, reloading: deps.ReloadingDep) -> schemas.Version:
    """Fingerprints (SHA-256) of the network and of the index, where they run, and what the answers are worth."""
    served = workers.lease.current
    engine, canaries = served.engine, served.canaries
    manifest, checkpoint = engine.manifest, engine.checkpoint
    return schemas.Version(
        version=installed("fc7"),
        model=schemas.ModelVersion(
            table=checkpoint.table.name,
            weights=manifest.inputs["weights"],
            recipe=manifest.inputs["recipe"],
            precision=checkpoint.recipe.precision,
            device=engine.device,
            engine=engine.network_engine,
            classes=list(engine.classes),
        ),
        generation=schemas.GenerationVersion(
            number=manifest.number,
            created=manifest.created,
            images=manifest.rows,
            width=manifest.width,
            device=engine.search_device,
            engine=manifest.engine,
            segments=engine.segments,
            removed=engine.removed,
            layout=schemas.Layout(**manifest.index),
            recall={mode: schemas.Recall(**asdict(recall)) for mode, recall in engine.recall.items()},
            verification=served.verification.state,
            canaries=schemas.CanariesVersion(
                images=len(engine.canaries),
                difference=canaries.worst,
                tolerance=canaries.tolerance,
                failed=canaries.failed,
            ),
            fingerprints={**manifest.inputs, **{name: part.sha256 for name, part in manifest.parts.items()}},
        ),
        refused=reloading.refused,
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"example": 'fc7_requests_total{route="/classify",status="200"} 12.0'}}}
    },
    summary="How many requests, how fast?",
)
async def metrics(numbers: deps.MetricsDep, workers: deps.AnyWorkersDep) -> Response:
    """Counts and durations in the Prometheus text format."""
    numbers.readiness.state(readiness.state(workers))
    return Response(numbers.text(), media_type=CONTENT_TYPE_LATEST)
