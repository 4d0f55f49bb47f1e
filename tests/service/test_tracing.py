"""A receiver on a port of its own really gets a span for each request and for each of its stages."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from service.errors import Busy, problem
from service.metrics import Metrics
from service.observed import Observed
from service.stages import note, record
from service.tracing import ENDPOINTS, TracingMissing, tracing_for

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    if scope["path"] == "/refused":
        await problem(Busy("full"))(scope, receive, send)
        return
    record("decode", 0.25)
    record("forward", 0.5)
    note(batch=8, generation=3, exactness="certified")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Receiver:
    """An OTLP/HTTP endpoint that keeps what it gets."""

    def __init__(self) -> None:
        found = self.requests = list[ExportTraceServiceRequest]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                found.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> list[Span]:
        return [
            span for one in self.requests for of in one.resource_spans for part in of.scope_spans for span in part.spans
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=[0.01])
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


@contextmanager
def traced(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv(ENDPOINTS[0], receiver.address)
    with tracing_for({ENDPOINTS[0]: receiver.address}) as tracing:
        yield TestClient(Observed(answering, Metrics(), tracing=tracing))


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


def test_a_request_is_a_span_with_its_stages(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with traced(receiver, monkeypatch) as client:
        client.post("/x", headers={"X-Request-Id": "mine"})
    whole, *_ = (span for span in receiver.spans if span.kind == Span.SPAN_KIND_SERVER)
    stages = {span.name: span for span in receiver.spans if span is not whole}
    assert whole.name == "POST none"
    assert attributes(whole) == {
        "http.request.method": "POST",
        "http.route": "none",
        "http.response.status_code": 200,
        "fc7.request_id": "mine",
        "fc7.batch": 8,
        "fc7.generation": 3,
        "fc7.exactness": "certified",
    }
    assert set(stages) == {"read", "decode", "forward"}
    for name, seconds in {"decode": 0.25, "forward": 0.5}.items():
        span = stages[name]
        assert (span.trace_id, span.parent_span_id) == (whole.trace_id, whole.span_id)
        assert (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 == pytest.approx(seconds, abs=1e-6)
        assert whole.start_time_unix_nano - 1e9 < span.end_time_unix_nano < whole.end_time_unix_nano + 1e7
    (resource,) = {one.resource_spans[0].resource.SerializeToString() for one in receiver.requests}
    assert b"service.name" in resource
    assert b"fc7" in resource


def test_a_callers_trace_goes_on(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with traced(receiver, monkeypatch) as client:
        client.get("/x", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        client.get("/x", headers={"traceparent": "no'trace\\"})
    one, other = (span for span in receiver.spans if span.kind == Span.SPAN_KIND_SERVER)
    assert (one.trace_id.hex(), one.parent_span_id.hex()) == (TRACE, PARENT)
    assert (len(other.trace_id), other.parent_span_id) == (16, b"")


def test_a_refusal_is_a_failed_span(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with traced(receiver, monkeypatch) as client:
        client.get("/refused")
    (span,) = (span for span in receiver.spans if span.kind == Span.SPAN_KIND_SERVER)
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes(span)["fc7.problem"] == "busy"


def test_the_log_names_the_trace(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with traced(receiver, monkeypatch) as client:
        client.get("/refused", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert [vars(line)["fields"]["trace_id"] for line in caplog.records if line.name == "service.observed"] == [TRACE]


def test_a_receiver_that_is_gone_delays_neither_answers_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv(ENDPOINTS[0], endpoint)
        with tracing_for({ENDPOINTS[0]: endpoint}) as tracing:
            client = TestClient(Observed(answering, Metrics(), tracing=tracing))
            assert client.get("/x").status_code == 200
            begun = time.monotonic()
        assert time.monotonic() - begun < 5


def test_asked_for_and_not_installed_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(TracingMissing) as raised, tracing_for({ENDPOINTS[1]: "http://127.0.0.1:1"}):
        pass
    assert "pip install 'fc7[otel]'" in str(raised.value)
    assert str(raised.value).startswith(ENDPOINTS[1])


@pytest.mark.slow
def test_unless_it_is_asked_for_the_extra_is_not_imported() -> None:
    """FastAPI imports the API, which does nothing, without the extra's SDK."""
    code = (
        "import sys; import service.server; from service.tracing import tracing_for\n"
        "with tracing_for({}) as tracing: assert tracing is None\n"
        "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
