"""Generations share segments by hard links; when too much of them is dead, or they are too many, one takes all rows."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from index import Bundle, Generation, Layout, open_search
from index.exact import nearest
from tests.index.blocks import File, Files, Run, build, collection, contents
from tests.index.test_changes import whole

TEN = Files([File(f"{i}", f"image {i}", i % 3) for i in range(10)])
SHARED = ("checkpoint.safetensors", *(f"segments/0001/{name}" for name in ("features.npy", "ids.npy", "lengths.npy")))


def shares(one: Generation, other: Generation) -> set[str]:
    """Return the files that two generations have in common."""
    return {name for name in set(one.manifest.parts) & set(other.manifest.parts) if same(one, other, name)}


def same(one: Generation, other: Generation, name: str) -> bool:
    return (one.path / name).samefile(other.path / name)


def grown(path: Path, checkpoint: Path, times: int, run: Run | None = None) -> list[Generation]:
    """Index ten images, then one more and one more."""
    files = list(TEN.files)
    made = [build(path, checkpoint, Files(files), run or Run())]
    for time in range(times):
        files.append(File(f"more {time}", f"more {time}"))
        made.append(build(path, checkpoint, Files(files), run or Run()))
    return made


def test_an_addition_writes_only_its_own_rows(path: Path, checkpoint: Path) -> None:
    one, two = grown(path, checkpoint, 1)
    shared = {*SHARED, "segments/0001/thumbnails.sqlite"}
    assert shares(one, two) == shared
    assert [segment.name for segment in two.segments] == ["0001", "0002"]
    assert two.manifest.parts.items() >= {(name, one.manifest.parts[name]) for name in shared}
    whole(two)


def test_what_is_shared_outlives_the_generation_that_wrote_it(path: Path, checkpoint: Path) -> None:
    *_, last = grown(path, checkpoint, 3)
    assert not (path / "generations/0001").exists()
    assert Bundle(path).prune() == [2, 3]
    whole(last)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EMLINK])
def test_where_links_cannot_be_files_are_copied(
    path: Path, checkpoint: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    one, two = grown(path, checkpoint, 1)
    assert shares(one, two) == set()
    whole(two)


def test_a_fifth_may_be_dead_and_more_is_compacted(path: Path, checkpoint: Path) -> None:
    build(path, checkpoint, TEN)
    generation = Bundle(path).remove([3, 5])
    assert (generation.manifest.segments, generation.removed.tolist()) == (("0001",), [3, 5])
    whole(generation)
    generation = Bundle(path).remove([9])
    assert (generation.manifest.segments, generation.removed.tolist()) == (("0003",), [])
    assert generation.ids.tolist() == [0, 1, 2, 4, 6, 7, 8]
    whole(generation)
    assert Bundle(path).roll_back().ids.tolist() == [0, 1, 2, 4, 6, 7, 8, 9]


def test_an_addition_compacts_with_its_own_rows_behind(path: Path, checkpoint: Path) -> None:
    build(path, checkpoint, TEN)
    generation = build(path, checkpoint, Files([*TEN.files[3:], File("more", "more")]))
    assert (generation.manifest.segments, generation.removed.tolist()) == (("0002",), [])
    assert generation.ids.tolist() == [3, 4, 5, 6, 7, 8, 9, 10]
    whole(generation)


def test_a_ninth_segment_makes_one_of_all(path: Path, checkpoint: Path) -> None:
    made = grown(path, checkpoint, 8)
    assert [len(generation.segments) for generation in made] == [1, 2, 3, 4, 5, 6, 7, 8, 1]
    assert made[-1].ids.tolist() == list(range(18))
    whole(made[-1])


def test_many_rows_are_compacted_in_parts(path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.segment_writer.ROWS", 7)
    build(path, checkpoint, collection(50))
    generation = Bundle(path).remove([8, 9, 10, 11, 12, 13, 15, 16, 30])
    assert generation.manifest.segments == ("0002",)
    whole(generation)


def test_the_rows_that_are_left_are_what_a_search_finds(path: Path, checkpoint: Path) -> None:
    layout = Layout("panorama", components=16, leading=8)
    files = collection(200).files
    projection = contents(build(path, checkpoint, Files(files[:150]), Run(layout=layout)))["projection.npy"]
    build(path, checkpoint, Files(files), Run(layout=layout))
    queries = np.random.default_rng(0).standard_normal((9, 48), dtype=np.float32)
    gone: list[int] = []
    for _ in range(6):
        generation = Bundle(path).current()
        found = open_search(generation).search(queries, 6)
        expected = nearest(generation.rows(generation.ids), generation.ids, queries, 6)
        np.testing.assert_array_equal(found.ids, expected[1])
        np.testing.assert_array_equal(found.distances, expected[0])
        gone += np.unique(found.ids[:, :2]).tolist()
        Bundle(path).remove(np.unique(found.ids[:, :2]).tolist())
    generation = Bundle(path).current()
    assert not set(gone) & set(generation.ids.tolist())
    assert generation.manifest.segments[0] > "0002"  # it was compacted on the way
    assert contents(generation)["projection.npy"] != projection  # it is of the rows that are left
