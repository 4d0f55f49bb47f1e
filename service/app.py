"""The application. create_app builds it from settings, and its lifespan loads the engine."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

import numpy as np
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.middleware.cors import CORSMiddleware

from service import errors, operations, page
from service.access import REFUSALS, Access
from service.admission import Admission, Gate
from service.canaries import Canaries
from service.changes import Changes
from service.engine import Engine
from service.hanging_up import HangingUp
from service.headers import SecurityHeaders
from service.keys import Keys
from service.lease import Lease
from service.loading import load_engine
from service.metrics import Metrics
from service.observed import Observed
from service.openapi import App
from service.reloading import Reloading, serve_generation
from service.routes import admin, ask, changes, images, many, map
from service.settings import Settings
from service.tracing import Tracing
from service.workers import Workers

__all__ = ["create_app"]

ABOUT = (
    "What is this image, and which images of the collection are nearest to it? The distance is between activations of "
    "AlexNet's last hidden layer.\n\n"
    "Errors are `application/problem+json` (RFC 9457): a program should compare `type`, a person should read `detail`."
)


def _log_failure(error: Exception) -> None:
    logging.getLogger(__name__).error("cannot serve: %s", error)


def create_app(
    settings: Settings,
    load: Callable[[Settings], Engine] = load_engine,
    failed: Callable[[Exception], None] = _log_failure,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Build the service. `load` makes the engine, in a thread, when the app starts; `failed` gets its error.

    Raises KeysUnusable.
    """
    keys = Keys(settings.keys) if settings.keys else None
    app = App(
        title="fc7",
        description=ABOUT,
        version=version("fc7"),
        lifespan=_loading(settings, load, failed),
        docs_url=None,  # page.py has a page that loads nothing from other hosts
        redoc_url=None,
        responses=errors.documented(*REFUSALS),
        dependencies=[Depends(HTTPBearer(auto_error=False))] if keys else [],  # for OpenAPI; Access has checked the key
        form_limits={"max_files": 1, "max_fields": 16, "max_part_size": 4096},  # a route that takes more says so
    )
    app.state.workers, app.state.metrics, app.state.rng = None, Metrics(), np.random.default_rng()
    if keys:
        app.state.metrics.keyed(keys)
    app.state.gate, app.state.max_k = Gate(settings, app.state.metrics), settings.max_k
    for router in (
        ask.router,
        many.router,
        images.router,
        changes.router,
        map.router,
        admin.router,
        operations.router,
        page.router,
    ):
        app.include_router(router)
    app.mount("/static", page.files())
    app.mount("/docs", page.swagger())  # behind the page of the same name, which the router has
    errors.install(app)
    app.add_middleware(HangingUp)
    app.add_middleware(Access, settings=settings, keys=keys)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization"],
            expose_headers=["*"],
        )
    app.add_middleware(Admission, gate=app.state.gate)
    app.add_middleware(Observed, metrics=app.state.metrics, addresses=settings.log_addresses, tracing=tracing)
    app.add_middleware(SecurityHeaders)  # outermost: an answer to what nobody caught has them, too
    return app


def _loading(
    settings: Settings, load: Callable[[Settings], Engine], failed: Callable[[Exception], None]
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return the lifespan that loads the engine. Meanwhile /healthz answers 200 and /readyz answers 503."""

    async def start(app: FastAPI) -> None:
        try:
            engine = await asyncio.to_thread(load, settings)
        except Exception as error:
            failed(error)
            return
        metrics, canaries = app.state.metrics, Canaries(engine)
        lease = Lease(serve_generation(engine, canaries, settings, metrics), metrics.generations_open.set)
        workers = Workers(lease, metrics, settings)
        app.state.reloading = reloading = Reloading(workers, metrics, settings)
        app.state.changes, app.state.workers = Changes(workers, reloading, settings), workers

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(start(app))
        yield
        await starting  # a thread that loads cannot be stopped
        if app.state.workers is not None:
            await app.state.changes.close()
            await app.state.reloading.close()
            await app.state.workers.close()
            app.state.workers = None

    return lifespan
