"""The files of the index are read after the start: one that is not the published one ends readiness."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
from starlette.testclient import TestClient

from index import DamagedPart
from service.app import create_app
from service.engine import Engine
from service.loading import load_engine
from service.settings import Settings
from service.verification import Verification
from tests.processes import environment
from tests.service.bundles import image_file
from tests.service.conftest import client_of, ready
from tests.service.test_problems import problem
from tests.waiting import SECONDS, wait_until

ROOT = Path(__file__).parents[2]
PART = "segments/0001/features.npy"
DAMAGED = problem(
    503,
    "damaged-index",
    "Damaged index",
    f"{PART} of the index is not the file that was published; build the index again, and restart",
)


@pytest.fixture
def damaged(settings: Settings, tmp_path: Path) -> Settings:
    """A bundle one of whose files differs in one byte from the published one."""
    bundle = Path(copytree(settings.bundle, tmp_path / "bundle", symlinks=True))
    features = next((bundle / "generations").glob("*")) / PART
    features.chmod(0o600)
    with features.open("r+b") as file:
        file.seek(5000)
        file.write(b"\1")
    return replace(settings, bundle=bundle)


def state(client: TestClient) -> str:
    found: str = client.get("/version").json()["generation"]["verification"]
    return found


def test_the_files_are_read_after_the_start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    verify = Engine.verify

    def later(self: Engine, pause: Callable[[], None]) -> None:
        assert go.wait(SECONDS)
        verify(self, pause)

    monkeypatch.setattr(Engine, "verify", later)
    with ready(create_app(settings)) as client:
        assert state(client) == "pending"
        assert client.post("/neighbours?image_id=3").status_code == 200
        assert 'fc7_verification{fc7_verification="pending"} 1.0' in client.get("/metrics").text.splitlines()
        go.set()
        wait_until(lambda: state(client) == "done")
        assert client.get("/readyz").status_code == 200
        assert 'fc7_verification{fc7_verification="done"} 1.0' in client.get("/metrics").text.splitlines()


def test_a_file_that_is_not_the_published_one_ends_readiness(
    damaged: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(create_app(damaged)) as client:
        wait_until(
            lambda: 'fc7_verification{fc7_verification="failed"} 1.0' in client.get("/metrics").text.splitlines()
        )
        assert state(client) == "failed"
        answers = [client.get(path) for path in ("/readyz", "/images/1", "/images/random")]
        answers += [client.post(path, files={"file": image_file(0)}) for path in ("/classify", "/neighbours", "/embed")]
        assert [client.get(path).status_code for path in ("/healthz", "/metrics", "/")] == [200, 200, 200]
    for answer in answers:
        assert (answer.status_code, answer.json()) == (503, DAMAGED)
        assert "Retry-After" not in answer.headers  # it stays damaged
    (line,) = [record.getMessage() for record in caplog.records if record.name == "service.verification"]
    assert line.startswith("no longer ready: ")
    assert PART in line


def test_one_of_a_replaced_generation_reports_nothing_more() -> None:
    go, told = threading.Event(), list[str]()

    def last_file(_: Callable[[], None]) -> None:
        assert go.wait(SECONDS)

    verification = Verification(last_file, told.append)
    verification.stop()
    go.set()
    verification.close()
    assert told == ["pending"]


def test_with_the_setting_every_file_is_read_before_it_is_ready(
    damaged: Settings, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DamagedPart, match=f"{PART}: not the file that was published"):
        load_engine(replace(damaged, verify=True))
    monkeypatch.setattr(Engine, "verify", lambda *_: pytest.fail("read a second time"))
    with ready(create_app(replace(settings, verify=True))) as client:
        assert state(client) == "done"


def test_a_process_that_ends_without_closing_does_not_wait_for_the_reading() -> None:
    """A second Ctrl-C ends it so."""
    endless = "lambda _: threading.Event().wait(100)"
    code = f"import threading; from service.verification import Verification; Verification({endless}, print)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0


def test_reading_them_has_the_lowest_priority_and_stops_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, niceness = threading.Event(), set()

    def endless(_: Engine, pause: Callable[[], None]) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            niceness.add(os.nice(0))
            reading.set()
            pause()

    monkeypatch.setattr(Engine, "verify", endless)
    with ready(create_app(settings)):
        assert reading.wait(SECONDS)
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    assert niceness == {19}
    assert "verify" not in [thread.name for thread in threading.enumerate()]
