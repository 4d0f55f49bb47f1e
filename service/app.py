"""The app is a function of its settings: importing this module does nothing, its lifespan loads the engine."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

import numpy as np
from fastapi import FastAPI

from service import errors, operations, page, routes
from service.engine import Engine, load_engine
from service.metrics import Measured, Metrics
from service.settings import Settings
from service.uploads import BodyLimit
from service.workers import Workers

__all__ = ["create_app"]

ABOUT = (
    "What is this image, and which six training images are nearest to it? AlexNet's last hidden layer, served.\n\n"
    "Errors are `application/problem+json` (RFC 9457); compare their `type`, show their `detail`."
)


def _log_failure(error: Exception) -> None:
    logging.getLogger(__name__).error("cannot serve: %s", error)


def create_app(
    settings: Settings,
    load: Callable[[Settings], Engine] = load_engine,
    failed: Callable[[Exception], None] = _log_failure,
) -> FastAPI:
    """The service. `load` builds the engine in a thread once the app starts; `failed` is told when it cannot."""
    app = FastAPI(
        title="fc7",
        description=ABOUT,
        version=version("fc7"),
        lifespan=_loading(settings, load, failed),
        docs_url=None,  # page.py has one that needs nothing from elsewhere
        redoc_url=None,
    )
    app.state.workers, app.state.metrics, app.state.rng = None, Metrics(), np.random.default_rng()
    for router in (routes.router, operations.router, page.router):
        app.include_router(router)
    app.mount("/static", page.files())
    errors.install(app)
    app.add_middleware(BodyLimit, limit=settings.max_bytes)
    app.add_middleware(Measured, metrics=app.state.metrics)
    return app


def _loading(
    settings: Settings, load: Callable[[Settings], Engine], failed: Callable[[Exception], None]
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """While it loads, /healthz answers and /readyz says 503."""

    async def start(app: FastAPI) -> None:
        try:
            engine = await asyncio.to_thread(load, settings)
        except Exception as error:
            failed(error)
            return
        app.state.metrics.serving(engine)
        app.state.workers = Workers(
            engine, app.state.metrics, decoders=settings.decoders, max_in_flight=settings.max_in_flight
        )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(start(app))
        yield
        await starting  # a thread cannot be stopped
        if app.state.workers is not None:
            app.state.workers.close()
            app.state.workers = None

    return lifespan
