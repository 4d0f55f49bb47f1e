"""The service benchmark: every form answers the same, its tables hold what was measured, and the aims are judged."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.benchmarks import service, service_overload
from scripts.benchmarks.service import HANDLER, LITSERVE, OURS, Begun, Loaded, check, measure, shown
from scripts.benchmarks.service_alone import Alone
from scripts.benchmarks.service_inputs import Inputs
from scripts.benchmarks.service_overload import TIMES, Phase
from scripts.benchmarks.service_targets import Target, targets
from scripts.benchmarks.settings import Service
from scripts.command import Refused
from tests.scripts.load.toy import Writer, good, server

CONFIG = Service(preset="cifar", indexed=20, photographs=3, kilobytes=4, clients=(1, 2), seconds=1, rounds=1)


@pytest.mark.slow
def test_every_form_is_loaded_and_compared(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(service, "own_process", lambda: ThreadPoolExecutor(1))
    monkeypatch.setattr(service, "find_spec", lambda _: None)  # LitServe takes seconds to start
    monkeypatch.setattr(service, "WARM_UP", 0.1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    rows = measure(CONFIG)
    loaded = {(row.form, row.route, row.clients): row for row in rows if isinstance(row, Loaded)}
    assert set(loaded) == {
        (form, route, clients)
        for form, route in ((OURS, "/classify"), (OURS, "/neighbours"), (HANDLER, "/classify"))
        for clients in (1, 2)
    }
    for row in loaded.values():
        assert (row.not_ok, row.slowest, row.fastest) == (0, row.per_s, row.per_s)
        assert 0 < row.p50_ms <= row.p99_ms
        assert 0 < row.client_share < 1
    assert [row.part for row in rows if isinstance(row, Alone)] == ["decode", "forward", "search"]
    assert [row.form for row in rows if isinstance(row, Begun)] == [OURS, HANDLER]
    assert f"left out: {LITSERVE}, which needs litserve: pip install -e .[peers]" in capfd.readouterr().err
    for text in shown(CONFIG, rows).split("\n\n"):
        assert len({len(line) for line in text.splitlines()}) == 1


def test_peers_with_fewer_threads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(Refused, match="OMP_NUM_THREADS is set"):
        measure(CONFIG)


def test_a_form_that_answers_something_else_is_refused() -> None:
    check({OURS: (3, 0.5), HANDLER: (3, 0.5004)})
    for other in ((4, 0.5), (3, 0.52)):
        with pytest.raises(Refused, match="LitServe.* gives class"):
            check({OURS: (3, 0.5), LITSERVE: other})


def loaded(form: str, route: str, clients: int, per_s: float, p50_ms: float = 10.0) -> Loaded:
    return Loaded(form, route, clients, per_s, per_s, per_s, p50_ms, p50_ms, 0, 0.0)


def test_each_aim_is_judged_by_its_own_figures() -> None:
    parts = [Alone("decode", 2.0, 500, 9), Alone("forward", 8.0, 125, 9), Alone("search", 1.0, 100, 9)]
    rows = [
        loaded(OURS, "/classify", 1, 90, p50_ms=10.5),
        loaded(OURS, "/classify", 64, 95),
        loaded(OURS, "/neighbours", 1, 80, p50_ms=13.2),
        loaded(HANDLER, "/classify", 64, 25),
        loaded(LITSERVE, "/classify", 64, 100),
    ]
    found = list(targets(rows, [Begun(HANDLER, 90, 90, 90), Begun(OURS, 5, 4, 6)], parts))
    # Times the handler, times LitServe, share of 1 / (1 / 500 + 1 / 125) = 100, p50 of 10 ms, of 11 ms, start.
    assert [round(target.value, 3) for target in found] == [3.8, 0.95, 0.95, 1.05, 1.2, 5]
    assert [target.met for target in found] == [True, False, True, True, False, True]


@dataclass(frozen=True)
class Toy:
    port: int

    def memory(self) -> int:
        return 1_000_000


def test_overload_tells_accepted_from_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server that refuses every second request, whatever the rate."""
    inputs = Inputs(tmp_path, tmp_path, (b"an image",))

    def every_second(number: int, writer: Writer) -> None:
        if number % 2:
            good(number, writer)
        else:
            writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    @contextmanager
    def toy(_: Sequence[str], port: int, first: bytes) -> Iterator[Toy]:
        with server(every_second, 0.02, first) as port:
            yield Toy(port)

    monkeypatch.setattr(service_overload, "started", toy)
    monkeypatch.setattr(service_overload, "free_port", lambda: 0)
    monkeypatch.setattr(service_overload, "WARM_UP", 0.05)
    rows = list(service_overload.measure(CONFIG, inputs))
    full, over, _ = [row for row in rows if isinstance(row, Phase)]
    assert over.offered == pytest.approx(TIMES * full.offered)
    assert over.accepted > 2 * full.accepted
    assert over.refused == pytest.approx(over.accepted, rel=0.2)
    assert (over.other, over.before_mb, over.after_mb) == (0, 1, 1)
    assert 20 <= over.p50_ms <= over.p99_ms
    aims = [row for row in rows if isinstance(row, Target)]
    assert [target.met for target in aims if "neither" in target.what or "memory" in target.what] == [True, True]
