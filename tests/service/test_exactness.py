"""Each answer says how right it is; a query that must read the whole index holds up no other."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from index import Answers, open_search
from index.manifest import MANIFEST, Manifest
from index.search import Exactness
from service.app import create_app
from service.settings import Settings
from tests.service.bundles import BROKEN, image_file
from tests.service.conftest import ready
from tests.service.test_problems import bad_parameter, problem
from tests.waiting import SECONDS

HARD = 9  # this k is hard to the search below
RECALL = {"value": 0.75, "low": 0.5, "high": 0.875}
Client = Callable[..., TestClient]


class Stub:
    """A search that finds a query for HARD neighbours hard, and whose slow search waits."""

    device = "cpu"

    def __init__(self, *opened: Any, **how: Any) -> None:
        self.search = open_search(*opened, **how)
        self.go = threading.Event()
        self.threads: set[tuple[str, int]] = set()  # name and niceness

    def quick(
        self, queries: NDArray[np.float32], k: int, *, measured: bool, among: NDArray[np.int64] | None
    ) -> Answers:
        answers = self.search.quick(queries, k, among=among)
        assert answers.settled.all()
        exactness: Exactness = "measured" if measured else "certified"
        return replace(answers, exactness=(exactness,) * len(queries), settled=np.full(len(queries), k != HARD))

    def slow(self, query: NDArray[np.float32], k: int, *, among: NDArray[np.int64] | None) -> Answers:
        self.threads.add((threading.current_thread().name, os.nice(0)))
        assert self.go.wait(SECONDS)
        return self.search.slow(query, k, among=among)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Stub]]:
    """The stub of the service that is started last."""
    made: list[Stub] = []

    def opened(*opened: Any, **how: Any) -> Stub:
        made.append(Stub(*opened, **how))
        return made[-1]

    monkeypatch.setattr("service.loading.open_search", opened)
    yield made
    made[-1].go.set()


@pytest.fixture
def measured(settings: Settings, tmp_path: Path) -> Settings:
    """A bundle whose manifest says what its measured answers are worth."""
    bundle = Path(copytree(settings.bundle, tmp_path / "bundle", symlinks=True))
    file = next((bundle / "generations").glob("*")) / MANIFEST
    quality = {
        "k": 6,
        "certified": {"recall": {"value": 1.0, "low": 0.99, "high": 1.0}},
        "measured": {"recall": RECALL},
    }
    file.write_text(replace(Manifest.read(file), quality=quality).to_json())
    return replace(settings, bundle=bundle)


def ask(client: TestClient, **fields: object) -> dict[str, Any]:
    answer = client.post("/neighbours", data={name: str(value) for name, value in fields.items()})
    body: dict[str, Any] = answer.json()
    assert answer.status_code == 200, body
    return body


@pytest.mark.usefixtures("stub")
def test_an_answer_is_certified_unless_measured_is_asked_for(measured: Settings) -> None:
    with ready(create_app(measured)) as client:
        for proven in (ask(client, image_id=3), ask(client, image_id=3, exactness="certified")):
            assert (proven["exactness"], proven["recall"]) == ("certified", None)
        quickest = ask(client, image_id=3, exactness="measured")
        assert (quickest["exactness"], quickest["recall"]) == ("measured", {**RECALL, "k": 6})
        assert client.post("/neighbours?image_id=3&exactness=measured").json() == quickest
        lines = client.get("/metrics").text.splitlines()
        assert 'fc7_neighbours_total{exactness="certified"} 2.0' in lines
        assert 'fc7_neighbours_total{exactness="measured"} 2.0' in lines
        recall = client.get("/version").json()["generation"]["recall"]
        assert recall == {"certified": {"value": 1.0, "low": 0.99, "high": 1.0, "k": 6}, "measured": {**RECALL, "k": 6}}


@pytest.mark.usefixtures("stub")
def test_where_no_recall_was_measured_an_answer_is_proven_whatever_was_asked_for(settings: Settings) -> None:
    with ready(create_app(settings)) as client:
        answer = ask(client, image_id=3, exactness="measured")
        assert (answer["exactness"], answer["recall"]) == ("certified", None)


@pytest.mark.parametrize("value", ["exact", "yes"])
def test_another_exactness_is_refused(value: str, client: TestClient) -> None:
    expected = bad_parameter("exactness", "Input should be 'certified' or 'measured'")
    assert client.post("/neighbours", data={"image_id": "3", "exactness": value}).json() == expected
    assert client.post(f"/neighbours?image_id=3&exactness={value}").json() == expected


def test_a_hard_query_holds_up_no_other(settings: Settings, stub: list[Stub]) -> None:
    with ready(create_app(settings)) as client, ThreadPoolExecutor(4) as pool:
        hard = pool.submit(ask, client, image_id=3, k=HARD)
        others = [pool.submit(client.post, "/neighbours", files={"file": image_file(BROKEN + i)}) for i in range(1, 21)]
        assert {other.result(SECONDS).json()["exactness"] for other in others} == {"certified"}
        assert not hard.done()
        stub[0].go.set()
        answer = hard.result(SECONDS)
        assert (answer["exactness"], answer["recall"]) == ("exact", None)
        assert answer["neighbours"][:6] == ask(client, image_id=3)["neighbours"]
        assert len(answer["neighbours"]) == HARD


def test_a_hard_query_under_a_label_finds_images_of_it_alone(settings: Settings, stub: list[Stub]) -> None:
    with ready(create_app(settings)) as client:
        stub[0].go.set()
        answer = ask(client, image_id=3, k=HARD, label="frog")
        assert [one["label"] for one in answer["neighbours"]] == ["frog"] * HARD
        assert answer["exactness"] == "exact"
        assert stub[0].threads


def test_a_hard_query_too_many_is_told_to_come_back(settings: Settings, stub: list[Stub]) -> None:
    with ready(create_app(replace(settings, max_slow=2))) as client, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.post, f"/neighbours?image_id=3&k={HARD}") for _ in range(3)]
        done, inside = wait(asked, SECONDS, "FIRST_COMPLETED")
        (refused,) = (future.result() for future in done)
        detail = "2 slow searches are in progress, which is the maximum; try again in a moment, or with a smaller k"
        assert (refused.status_code, refused.json()) == (503, problem(503, "busy", "Busy", detail))
        assert refused.headers["Retry-After"] in "123"
        stub[0].go.set()
        assert [future.result(SECONDS).status_code for future in inside] == [200, 200]
        assert ask(client, image_id=3, k=HARD)["exactness"] == "exact"
        assert stub[0].threads == {("slow_0", min(19, os.nice(0) + 5))}
        assert "fc7_slow_search_seconds_count 3.0" in client.get("/metrics").text.splitlines()
