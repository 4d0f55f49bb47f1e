"""Traces for OpenTelemetry: a span for each request, and in it one for each stage.

Only with the extra fc7[otel], and only where the standard variable OTEL_EXPORTER_OTLP_ENDPOINT says where to send them:
else the extra is not imported. The other OTEL_* variables (service name, sampling, headers) hold, too. FastAPI can make
spans itself; it puts the caller's path and query into them, and does not know the stages.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.stages import Record

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["Tracing", "TracingMissing", "trace_id", "tracing_for"]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
CLOSING_SECONDS = 2.0  # for the spans that are not sent yet


class TracingMissing(ImportError):
    """Traces are asked for, and OpenTelemetry is not installed."""


@contextmanager
def tracing_for(environment: Mapping[str, str]) -> "Iterator[Tracing | None]":
    """Give what makes spans, None where the variables name no place for them. Raises TracingMissing."""
    named = [name for name in ENDPOINTS if environment.get(name)]
    if not named:
        yield None
        return
    try:
        tracing = Tracing()
    except ImportError as error:
        raise TracingMissing(
            f"{named[0]} asks for traces, which need OpenTelemetry; install it with: pip install 'fc7[otel]'"
        ) from error
    try:
        yield tracing
    finally:
        tracing.close()


class Tracing:
    """Makes spans, and sends them in a thread of its own; what cannot be sent is dropped."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        own = Resource({SERVICE_NAME: "fc7"})
        named = Resource.create()  # from OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        unnamed = str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
        self._provider = TracerProvider(resource=named.merge(own) if unnamed else named, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("fc7")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, headers: list[tuple[bytes, bytes]]) -> "Span":
        """Start a request's span, under the caller's where the header traceparent names one."""
        from opentelemetry.trace import SpanKind

        found = {name.decode(): value.decode("latin-1") for name, value in headers if name.startswith(b"trace")}
        return self._tracer.start_span("request", context=self._propagator.extract(found), kind=SpanKind.SERVER)

    def end(self, span: "Span", record: Record, method: str, route: str, status: int) -> None:
        """End a request's span, with a span for each stage."""
        from opentelemetry.trace import StatusCode, set_span_in_context

        span.update_name(f"{method} {route}")
        found: dict[str, str | int] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        found |= {f"fc7.{name}": value for name, value in {"request_id": record.request_id, **record.about()}.items()}
        span.set_attributes(found)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        within, clock = set_span_in_context(span), time.time() - time.perf_counter()
        for stage, ended, seconds in record.stages:
            part = self._tracer.start_span(stage, within, start_time=_nanoseconds(clock + ended - seconds))
            part.end(_nanoseconds(clock + ended))
        span.end()

    def close(self) -> None:
        """Send what is left, for a short time at most: its receiver may be gone."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSING_SECONDS)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def trace_id(span: "Span") -> str:
    """Return the id of a span's trace: 32 hexadecimal digits."""
    return f"{span.get_span_context().trace_id:032x}"
