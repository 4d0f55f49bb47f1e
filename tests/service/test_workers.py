"""The service around its decoders: what overruns is the client's 413, and a decoder that cannot be had is not ready."""

import os
import signal
from dataclasses import replace

import pytest

from service import decoding
from service.app import create_app
from service.settings import Settings
from tests.service.bundles import image_file
from tests.service.conftest import ready
from tests.service.test_problems import problem
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def test_an_image_that_takes_too_long_is_refused_and_the_next_is_answered(settings: Settings) -> None:
    short = replace(settings, decode_seconds=0.4, max_bytes=20_000_000, max_pixels=5_000_000, decoders=1)
    slow = b"P2 3000 1500 255\n" + 4_500_000 * b"9 "  # pixels written out as text take 1.1 s
    with ready(create_app(short)) as client:
        answer = client.post("/classify", files={"file": slow})
        detail = "decoding it takes longer than the limit of 0.4 s"
        assert answer.json() == problem(413, "too-costly", "Too costly to decode", detail)
        assert answer.status_code == 413
        assert client.post("/classify", files={"file": image_file(0)}).status_code == 200


def test_it_is_not_ready_while_no_decoder_can_be_started(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "RETRY_SECONDS", 0.1)
    app = create_app(replace(settings, decoders=1))
    with ready(app) as client:
        with monkeypatch.context() as patch:
            patch.setattr("service.decoder_process.ROOT", settings.bundle / "nowhere")
            assert client.post("/classify", files={"file": image_file(0)}).status_code == 200
            for pid in app.state.workers.decoders.pids:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: client.get("/readyz").status_code == 503)
            assert client.post("/classify", files={"file": image_file(0)}).status_code == 503
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/classify", files={"file": image_file(0)}).status_code == 200
