"""A small real bundle that will change, and every right answer of its generations, found without the service."""

import io
import math
import shutil
import subprocess
import sys
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from index import Bundle, exact
from model import Embedder, load_checkpoint
from model.checkpoint import save
from scripts import build_index
from scripts.benchmarks.service_inputs import untrained
from scripts.benchmarks.settings import Service
from scripts.command import Refused, parse
from scripts.load import photographs
from scripts.load.server import environment

__all__ = ["Known", "Right", "prepared"]

ROOT = Path(__file__).parents[2]
INDEXED, ADDED, ASKED = 300, 60, 48  # photographs
KILOBYTES = 8.0
K, TOP = 6, 5
NEAR = 1e-5  # relative: batches of another size round otherwise


@dataclass(frozen=True)
class Right:
    """The right answer to one photograph in one generation."""

    classes: tuple[int, ...]  # most probable first
    probabilities: tuple[float, ...]
    ids: tuple[int, ...]  # of the nearest images
    distances: tuple[float, ...]

    def wrong(self, answer: Any) -> str | None:
        """Say what differs in a service's JSON; None where it is right."""
        found = answer["predictions"]
        if not _near([p["probability"] for p in found], self.probabilities):
            return f"probabilities {found}, not {self.probabilities}"
        if [p["class_id"] for p in found] != list(self.classes):
            return f"classes {found}, not {self.classes}"
        if (near := answer.get("neighbours")) is None:
            return None
        if not _near([n["distance"] for n in near], self.distances):
            return f"distances {[n['distance'] for n in near]}, not {self.distances}"
        if [n["image_id"] for n in near] != list(self.ids):
            return f"neighbours {[n['image_id'] for n in near]}, not {self.ids}"
        return None


@dataclass(frozen=True)
class Known:
    """The bundle, at its first generation; what each change makes current; photographs and their answers."""

    bundle: Path
    changes: tuple[tuple[str, ...], ...]  # flags of scripts/build_index.py, one call each
    numbers: tuple[int, ...]  # of the generation that each change makes current
    photographs: tuple[bytes, ...]
    right: dict[int, tuple[Right, ...]]  # by generation, an answer for each photograph


def change(bundle: Path, flags: tuple[str, ...]) -> None:
    """Run scripts/build_index.py on a bundle. Raises Refused."""
    command = [sys.executable, "scripts/build_index.py", *_arguments(bundle, flags)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise Refused(f"scripts/build_index.py {' '.join(flags)}: {done.stderr.decode(errors='replace')[-500:]}")


def _change_here(bundle: Path, flags: tuple[str, ...]) -> None:
    """Do the same in this process, which has imported already what takes a new one seconds."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        build_index.job(parse(build_index.Config, _arguments(bundle, flags), {}))


def _arguments(bundle: Path, flags: tuple[str, ...]) -> list[str]:
    return ["--bundle", str(bundle), "--held-out", "0", *flags]


def prepared(folder: Path) -> Known:
    """Build a bundle in `folder`, and a copy that goes through the changes ahead of it."""
    photographs.write(folder / "images", INDEXED)
    photographs.write(folder / "more", ADDED, first=INDEXED)
    checkpoint, bundle, ahead = folder / "checkpoint.safetensors", folder / "bundle", folder / "ahead"
    save(checkpoint, untrained(Service(preset="cifar")))
    _change_here(bundle, ("--checkpoint", str(checkpoint), "--images", str(folder / "images")))
    shutil.copytree(bundle, ahead)
    asked = tuple(photographs.mirrored(folder / "images", ASKED, KILOBYTES))
    add = ("--add", str(folder / "more"))
    changes, numbers = (add, ("--rollback",), add), list[int]()
    right = dict([_answers(ahead, asked)])
    for flags in changes:
        _change_here(ahead, flags)
        number, answers = _answers(ahead, asked)
        right[number] = answers
        numbers.append(number)
    return Known(bundle, changes, tuple(numbers), asked, right)


def _answers(bundle: Path, asked: tuple[bytes, ...]) -> tuple[int, tuple[Right, ...]]:
    """The current generation's number, and its answers by the definition: one image at a time, all rows in float64."""
    with closing(Bundle(bundle).current()) as generation:
        embedder = Embedder(load_checkpoint(generation.checkpoint), "cpu")
        rows, ids, found = generation.all_rows(), generation.ids, list[Right]()
        for data in asked:
            probabilities, features = embedder(embedder.prepare(data)[None])
            best = np.argsort(-probabilities[0], kind="stable")[:TOP]
            distances, nearest = exact.nearest(rows, ids, features, K)
            found.append(
                Right(
                    tuple(map(int, best)),
                    tuple(map(float, probabilities[0][best])),
                    tuple(map(int, nearest[0])),
                    tuple(map(float, distances[0])),
                )
            )
        return generation.number, tuple(found)


def _near(found: list[float], wanted: tuple[float, ...]) -> bool:
    return len(found) == len(wanted) and all(map(lambda a, b: math.isclose(a, b, rel_tol=NEAR), found, wanted))
