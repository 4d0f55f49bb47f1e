"""Metrics for Prometheus. Each app has its own registry, so that tests can make several apps in one process."""

import time
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

from service.engine import Engine
from service.errors import KINDS, UNREADY
from service.keys import Keys
from service.stages import STAGES, Record
from service.verification import State

__all__ = ["NO_ROUTE", "Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LOST = ("time", "memory", "crash")  # why a decoder ended: its sender gets a 4xx
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
NO_ROUTE = "none"  # of an address that is not ours, so that it adds no label, and of what Admission or Access refuses


class Metrics:
    """Counters, gauges and histograms of one app. docs/operating.md says what each is good for.

    No label has more values than the code names: no address, file name, key or image id.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each, that nobody asks for
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests()
        self._edge()
        self._work()
        self._index()

    def _requests(self) -> None:
        self.requests = self._counter("fc7_requests", "Requests answered", "route", "status")
        self.latency = self._seconds(
            "fc7_request_seconds", "Seconds from a request's head to its answer's end", "route"
        )
        self.in_flight = self._gauge("fc7_requests_in_flight", "Requests not yet answered")
        self.stages = self._seconds("fc7_stage_seconds", "Seconds that a stage takes of a request", "stage")
        for name in STAGES:
            self.stages.labels(name)
        self.problems = self._counter("fc7_problems", "Requests refused or failed, by problem type", "type")
        for kind in KINDS.values():  # from 0, so that a first one is an increase
            self.problems.labels(kind.name)

    def _edge(self) -> None:
        self.admitted = self._gauge("fc7_requests_admitted", "Requests that hold one of the places")
        self.connections = self._gauge("fc7_connections", "Open connections")
        self.connections_refused = self._counter(
            "fc7_connections_refused", "Connections closed for there were too many"
        )

    def _work(self) -> None:
        self.decoded = self._counter("fc7_images_decoded", "Uploaded images decoded")
        self.decoders = self._gauge("fc7_decoders", "Decoder processes that are alive")
        self.decoders_lost = self._counter(
            "fc7_decoders_lost", "Decoder processes that ended and were replaced", "reason"
        )
        for reason in LOST:
            self.decoders_lost.labels(reason)
        self.queue_depth = self._gauge("fc7_queue_depth", "Images that wait for the network")
        self.batch_size = Histogram(
            "fc7_batch_size", "Images in one pass of the network", buckets=BATCHES, registry=self.registry
        )
        self.slow = self._seconds(
            "fc7_slow_search_seconds", "Seconds that a search takes which must read the whole index, waiting included"
        )
        self.neighbours = self._counter("fc7_neighbours", "Answers with neighbours, by how right they are", "exactness")

    def _index(self) -> None:
        self.generation = Info("fc7_generation", "The index generation in use", registry=self.registry)
        self.images = self._gauge("fc7_indexed_images", "Images in the index")
        self.swaps = self._counter("fc7_swaps", "New generations that were put to use or refused", "result")
        for result in ("ok", "refused"):
            self.swaps.labels(result)
        self.generations_open = self._gauge(
            "fc7_generations_open", "Generations in memory: the one in use, and replaced ones that requests still hold"
        )
        self._canary = Gauge(
            "fc7_canary_difference",
            "Largest difference of a canary's features from those that were built, relative to the largest feature",
            registry=None,
        )
        self._canary_shown = False
        self.readiness = Enum(
            "fc7_readiness",
            "What /readyz says: ready, or the problem's type",
            states=["ready", *(KINDS[error].name for error in UNREADY)],
            registry=self.registry,
        )
        self.verification = Enum(
            "fc7_verification",
            "Whether all files of the index were found to be those that were published",
            states=get_args(State),
            registry=self.registry,
        )

    def answered(self, route: str, status: str, record: Record) -> None:
        """Count a request that has been answered."""
        self.requests.labels(route, status).inc()
        self.latency.labels(route).observe(time.perf_counter() - record.begun)
        for name, seconds in record.seconds().items():
            self.stages.labels(name).observe(seconds)
        if record.problem is not None:
            self.problems.labels(record.problem).inc()

    def canary(self, difference: float | None) -> None:
        """Show the largest difference of the canaries; None where the generation in use has none: no metric then."""
        if difference is not None:
            self._canary.set(difference)
        if self._canary_shown != (difference is not None):
            (self.registry.unregister if self._canary_shown else self.registry.register)(self._canary)
            self._canary_shown = not self._canary_shown

    def keyed(self, keys: Keys) -> None:
        """Show whether the keys in use are those of their file, which is looked at whenever this is asked for."""
        self._gauge("fc7_keys_current", "1 while the keys in use are those of the file").set_function(keys.is_current)

    def serving(self, engine: Engine) -> None:
        """Record which index was loaded."""
        self.generation.info({"number": str(engine.manifest.number), "model": engine.model})
        self.images.set(engine.manifest.rows)

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    def _seconds(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=SECONDS, registry=self.registry)
