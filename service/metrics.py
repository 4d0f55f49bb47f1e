"""Metrics for Prometheus. Each app has its own registry, so that tests can make several apps in one process."""

import time
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.engine import Engine
from service.verification import State

__all__ = ["Measured", "Metrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters, gauges and histograms of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("fc7_requests", "Requests answered", ["route", "status"], registry=self.registry)
        self.latency = Histogram(
            "fc7_request_seconds", "Seconds to answer a request", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.in_flight = Gauge("fc7_requests_in_flight", "Requests not yet answered", registry=self.registry)
        self.admitted = Gauge(
            "fc7_requests_admitted",
            "Requests with an image that are in flight",
            registry=self.registry,
        )
        self.decoded = Counter("fc7_images_decoded", "Uploaded images decoded", registry=self.registry)
        self.inference = Histogram(
            "fc7_inference_seconds",
            "Seconds that one request takes in the network and the search",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.slow = Histogram(
            "fc7_slow_search_seconds",
            "Seconds that a search takes which must read the whole index, waiting included",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.neighbours = Counter(
            "fc7_neighbours", "Answers with neighbours, by how right they are", ["exactness"], registry=self.registry
        )
        self.verification = Enum(
            "fc7_verification",
            "Whether all files of the index were found to be those that were published",
            states=get_args(State),
            registry=self.registry,
        )
        self.generation = Info("fc7_generation", "The index generation in use", registry=self.registry)
        self.images = Gauge("fc7_indexed_images", "Images in the index", registry=self.registry)

    def serving(self, engine: Engine) -> None:
        """Record which index was loaded."""
        self.generation.info({"number": str(engine.manifest.number), "model": engine.model})
        self.images.set(engine.manifest.rows)

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware: counts and times each answer under its route's pattern, so unknown paths add no labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self.metrics.in_flight.track_inprogress():
            try:
                await self.app(scope, receive, noting)
            finally:
                route = getattr(scope.get("route"), "path", None) or "none"
                self.metrics.requests.labels(route, str(status)).inc()
                self.metrics.latency.labels(route).observe(time.perf_counter() - start)
