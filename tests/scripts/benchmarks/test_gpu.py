"""make gpu on a machine without a GPU, and what it makes of measurements taken elsewhere."""

import json
import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

import files
from scripts.benchmarks import gpu
from scripts.benchmarks.gpu import NO_SEARCH, Gpu, Outcome, Part, carry_out, check, gpu_tests, parts, shown
from scripts.command import Refused
from scripts.gpu import NEEDED
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
STEP = {"batch": 128, "form": "fc7, bfloat16", "images_per_s": 30123.4, "fastest_ms": 4.2, "slowest_ms": 4.4}
READING = {"loader": "fc7, host's share", "images_per_s": 80000, "fastest_ms": 99.0, "slowest_ms": 101.0}
SEARCHED = {
    "index": "GPU, float16",
    "batch": 500,
    "queries_per_s": 9000,
    "fastest_ms": 55,
    "slowest_ms": 56,
    "equal": 20,
    "checked": 20,
}


def script(*flags: str, interpreter: tuple[str, ...] = (), **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **variables}
    command = [sys.executable, *interpreter, "scripts/gpu.py", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_without_a_gpu_make_says_so_in_one_line_and_ends_with_2(tmp_path: Path) -> None:
    done = script("--out", str(tmp_path / "gpu.json"))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("sees no CUDA GPU here; make gpu measures one")
    assert not (tmp_path / "gpu.json").exists()


def test_missing_packages_are_named_in_one_line() -> None:
    done = script(interpreter=("-S",))  # no site-packages
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"gpu.py: {', '.join(NEEDED)} missing in ")


def test_make_runs_it_with_the_machines_python_and_installs_nothing() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "gpu", "PYTHON=some-python"]
    # `make test` hands its own flags to every make that its tests start.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f'PYTHONPATH="{ROOT}:$PYTHONPATH" some-python scripts/gpu.py']


def test_an_old_torch_is_refused_and_a_newer_one_is_not() -> None:
    check("2.11.0+cu126", cuda=True)
    check("3.0.0a0", cuda=True)
    with pytest.raises(Refused, match=r"torch 2\.9\.1 is here; 2\.11 or newer is needed"):
        check("2.9.1", cuda=True)


def test_the_parts_need_no_other_package_where_there_is_no_faiss() -> None:
    """Import all that runs without FAISS, with every other package of the project hidden."""
    modules = [name.removesuffix(".py").replace("/", ".") for name in gpu_tests()]
    without = [name for name in modules if not name.startswith("tests.index.")]
    assert len(without) < len(modules)
    code = f"""
        import importlib, sys

        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {{
                    "faiss", "torchvision", "fastapi", "starlette", "uvicorn", "pydantic", "prometheus_client",
                    "matplotlib", "tensorboard", "httpx", "playwright",
                }}:
                    raise ImportError(name)

        sys.meta_path.insert(0, Hidden())
        for name in ["scripts.benchmarks.train", "scripts.benchmarks.loader", "scripts.benchmarks.gpu", *{without}]:
            importlib.import_module(name)
        assert not sys.modules["scripts.benchmarks.gpu"].gpu_faiss()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_all_parts_together_end_in_under_ten_minutes() -> None:
    assert [part.name for part in parts(search=True)] == ["tests", "train", "loader", "search"]
    assert sum(part.limit for part in parts(search=True)) < 600
    without = parts(search=False)
    assert [part.name for part in without] == ["tests", "train", "loader"]
    assert not [word for word in without[0].command if word.startswith("tests/index/")]


@pytest.mark.slow
def test_a_part_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    code = f"""
import fcntl, subprocess, time
lock = open({str(tmp_path / "lock")!r}, "w")
fcntl.flock(lock, fcntl.LOCK_EX)
subprocess.Popen(["sleep", "300"], pass_fds=[lock.fileno()])
time.sleep(300)
"""
    outcome = carry_out(Part("train", ("-c", code), 5.0))
    assert (outcome.problem, outcome.rows) == ("not done in 5 s", ())
    assert (tmp_path / "lock").exists()

    def let_go() -> bool:
        with suppress(files.AlreadyLocked), files.locked(tmp_path / "lock"):
            return True
        return False

    wait_until(let_go)  # both are gone


@pytest.mark.parametrize(
    ("name", "code", "problem", "rows"),
    [
        pytest.param(
            "tests",
            "print('\\n3 passed, 1 skipped, 9 deselected in 2s')",
            "",
            [("passed", 3), ("skipped", 1)],
            id="passed",
        ),
        pytest.param("tests", "print('1 failed in 1s'); exit(1)", "exit code 1", [("failed", 1)], id="failed"),
        pytest.param("train", "exit('no GPU memory left')", "exit code 1", [], id="an error"),
        pytest.param("train", "print('Segmentation')", "exit code 0", [], id="no figures"),
    ],
)
def test_a_part_gives_its_figures_or_its_problem(
    name: str, code: str, problem: str, rows: list[tuple[str, int]]
) -> None:
    outcome = carry_out(Part(name, ("-c", code), 30))
    assert (outcome.part, outcome.problem) == (name, problem)
    assert [(row["outcome"], row["tests"]) for row in outcome.rows] == rows


SMALL = {
    "train": ("--preset", "cifar", "--batch", "2", "--classes", "3", "--rounds", "1"),
    "loader": ("--preset", "cifar", "--noise", "20", "--batch", "8", "--count", "16", "--rounds", "1"),
    "search": ("--rows", "20", "--width", "8", "--batch", "2", "--checked", "2", "--rounds", "1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_what_the_benchmarks_print_fits_the_table(name: str) -> None:
    flags = next(part for part in parts(search=True) if part.name == name).command
    outcome = carry_out(Part(name, (*flags, *SMALL[name]), 60))
    assert outcome.problem == ""
    assert len(shown([outcome]).splitlines()) == 2 + len(outcome.rows)


def test_one_table_holds_every_figure() -> None:
    outcomes = [
        Outcome("tests", 20, "", [{"outcome": "passed", "tests": 12}]),
        Outcome("train", 30, "", [STEP]),
        Outcome("loader", 9, "", [READING]),
        Outcome("search", 9, "", [SEARCHED]),
        Outcome("search", 0, NO_SEARCH),
    ]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown(outcomes).splitlines()[2:]]
    assert cells == [
        ["tests", "passed", "12", "-"],
        ["train", "fc7, bfloat16, 128 images", "30,123 img/s", "4.2-4.4"],
        ["loader", "fc7, host's share", "80,000 img/s", "99.0-101.0"],
        ["search", "GPU, float16, 500 at once, 20 of 20 as brute force", "9,000 queries/s", "55.0-56.0"],
        ["search", NO_SEARCH, "-", "-"],
    ]


def test_a_place_that_takes_no_file_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(gpu, "carry_out", lambda part: pytest.fail(f"{part.name} was begun"))
    for out in (tmp_path / "nowhere" / "gpu.json", tmp_path):
        with pytest.raises(Refused, match=f"^--out {out}: a file cannot be written there$"):
            gpu.job(Gpu(out=out))


def test_the_file_holds_every_figure_and_a_failed_part_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {
        "tests": Outcome("tests", 20, "exit code 1", [{"outcome": "failed", "tests": 1}]),
        "train": Outcome("train", 30, "", [STEP]),
        "loader": Outcome("loader", 90, "not done in 90 s"),
    }
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(gpu, "conditions", lambda: "one GPU")
    monkeypatch.setattr(gpu, "gpu_faiss", lambda: False)
    monkeypatch.setattr(gpu, "carry_out", lambda part: told[part.name])
    with pytest.raises(Refused, match="^tests, loader: not as it should be; the table says why$"):
        gpu.job(Gpu(out=tmp_path / "gpu.json"))
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["conditions"] == "one GPU"
    assert [part["part"] for part in written["parts"]] == ["tests", "train", "loader", "search"]
    assert written["parts"][1]["rows"] == [STEP]
    assert written["parts"][3]["problem"] == NO_SEARCH
    assert NO_SEARCH in capsys.readouterr().out
