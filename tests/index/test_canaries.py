"""A generation keeps a few encoded originals, which later ones share for as long as their images are there."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from index import Bundle, Generation, canaries, canaries_of, keep_canaries
from index.assembly import Measure
from index.canaries import COUNT
from tests.index.blocks import CLASSES, INPUTS, File, Files, Run, build, changes, collection, contents

OTHER = "/others"


def keeping(source: Files) -> Measure:
    def keep(generation: Generation) -> dict[str, int]:
        keep_canaries(generation, source.key, source.original)
        return {}

    return keep


def built(path: Path, checkpoint: Path, source: Files) -> Generation:
    return build(path, checkpoint, source, measure=keeping(source))


def ids(generation: Generation) -> list[int]:
    return [canary.image_id for canary in canaries_of(generation)]


def test_they_are_the_files_that_were_indexed_spread_over_classes_and_ids(path: Path, checkpoint: Path) -> None:
    source = collection()
    generation = built(path, checkpoint, source)
    found = canaries_of(generation)
    assert len(found) == COUNT
    for canary in found:
        assert canary.data == source.files[canary.image_id].bytes.encode()
        np.testing.assert_array_equal(canary.features, generation.rows([canary.image_id])[0])
    labels = Counter(generation.catalogue.image(canary.image_id).label for canary in found)
    assert set(labels) == {*CLASSES, None}
    assert max(labels.values()) <= 5
    assert min(ids(generation)) < 60
    assert max(ids(generation)) > 170


def test_equal_collections_have_equal_ones_and_each_is_a_part_that_is_verified(
    tmp_path: Path, checkpoint: Path
) -> None:
    one, other = (built(tmp_path / name, checkpoint, collection()) for name in ("one", "other"))
    assert contents(one) == contents(other)
    parts = [part for part in one.manifest.parts if part.startswith("canaries/")]
    assert len(parts) == COUNT
    one.verify()
    (one.path / parts[0]).write_bytes(bytes(one.manifest.parts[parts[0]].bytes))
    with pytest.raises(ValueError, match=f"{parts[0]}: not the file that was published"):
        one.verify()


def test_a_removed_image_leaves_and_the_others_are_the_same_files(path: Path, checkpoint: Path) -> None:
    before = built(path, checkpoint, collection())
    gone, *stay = ids(before)
    after = Bundle(path).remove([gone])
    assert ids(after) == stay
    assert (after.path / f"canaries/{stay[0]}").samefile(before.path / f"canaries/{stay[0]}")
    assert not (after.path / f"canaries/{gone}").exists()


def test_a_grown_collection_keeps_them_and_gets_those_that_it_lacks(path: Path, checkpoint: Path) -> None:
    before = ids(built(path, checkpoint, collection()))
    assert ids(built(path, checkpoint, collection(260))) == before
    gone = before[:3]
    Bundle(path).remove(gone).close()
    more = Files([File(f"more/{i}", f"more {i}") for i in range(8)], OTHER)
    after = ids(built(path, checkpoint, more))
    assert len(after) == COUNT
    assert set(before) - set(gone) < set(after)
    assert sum(image_id >= 260 for image_id in after) == 3


def test_another_network_keeps_new_ones(path: Path, checkpoint: Path) -> None:
    built(path, checkpoint, collection())
    run = Run({**INPUTS, "weights": "another network"})
    assert not changes(path, collection(100), run).empty
    generation = build(path, checkpoint, collection(100), run, keeping(collection(100)))
    assert len(ids(generation)) == COUNT
    assert min(ids(generation)) >= 230


def test_what_is_not_the_indexed_image_or_too_large_or_gone_is_left_out(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = collection(12, lost=100)
    large = File("large", "x" * 101)
    monkeypatch.setattr(canaries, "MOST_BYTES", 100)
    source = Files([*source.files, large])
    whole = Files.original
    rewritten, unreadable = source.files[1].name, source.files[2].name

    def original(files: Files, name: str) -> tuple[bytes, str] | None:
        found = whole(files, name)
        if found is None or name == unreadable:
            return None
        return (found[0], "another") if name == rewritten else found

    monkeypatch.setattr(Files, "original", original)
    assert ids(built(path, checkpoint, source)) == [3, 4, 5, 6, 7, 8, 9, 10, 11]  # 0 could not be read at all


def test_a_generation_without_any_is_opened(path: Path, checkpoint: Path) -> None:
    assert canaries_of(build(path, checkpoint)) == []
