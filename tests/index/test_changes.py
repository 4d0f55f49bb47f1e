"""A collection that changes: what is new is embedded, what is gone is dropped, what was renamed is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import BadBundle, Bundle, Generation, NoSuchImage
from index.bundle_folder import BundleFolder
from index.catalogue import Gone
from tests.index.blocks import (
    INPUTS,
    SOURCE,
    WIDTH,
    File,
    Files,
    Run,
    begun,
    build,
    changes,
    collection,
    contents,
    features_of,
)

OUTCOMES = ("indexed", "duplicate", "skipped", "kept", "excluded")
FILES = [File(name, name.upper(), "abcdefgh".index(name) % 3) for name in "abcdefgh"]


def updated(path: Path, checkpoint: Path, files: list[File], key: str = SOURCE, run: Run | None = None) -> Generation:
    """Bring the bundle up to date with these files, and check what must hold of every generation."""
    source = Files(files, key)
    generation = build(path, checkpoint, source, run or Run())
    ledger = generation.manifest.ledger
    assert ledger["inputs"] == len(files) == sum(ledger[outcome] for outcome in OUTCOMES)
    assert {named.name for named in generation.catalogue.names(key)} == {file.name for file in files}
    assert changes(path, source, run or Run()).empty
    whole(generation)
    return generation


def whole(generation: Generation) -> None:
    """Check that rows, labels and catalogue belong together."""
    generation.verify()
    assert set(generation.manifest.parts) == set(contents(generation))
    assert {path.name for path in (generation.path / "segments").iterdir()} == set(generation.manifest.segments)
    for segment in generation.segments:
        assert segment.thumbnails.rows("SELECT count(*) FROM thumbnails") == [(len(segment.ids),)]
    assert len(generation.catalogue.labels()) == len(generation.ids) == generation.manifest.rows
    for image_id, row in zip(generation.ids.tolist(), generation.rows(generation.ids), strict=True):
        image = generation.catalogue.image(image_id)
        data = image.thumbnail.decode().removeprefix("thumbnail of ").split("thumbnail")[0]
        np.testing.assert_array_equal(row, features_of(data))
    np.testing.assert_array_equal(generation.all_rows(), generation.rows(generation.ids))
    for image_id in generation.removed.tolist():
        with pytest.raises(NoSuchImage):
            generation.catalogue.image(image_id)


def outcomes(generation: Generation, key: str = SOURCE) -> dict[str, str]:
    return {named.name: named.outcome for named in generation.catalogue.names(key)}


def test_nothing_is_to_do_where_nothing_has_changed(path: Path, checkpoint: Path) -> None:
    assert not changes(path, Files(FILES)).empty
    updated(path, checkpoint, FILES)
    found = changes(path, Files(FILES))
    assert (found.empty, found.kept, found.base, found.fresh) == (True, 8, 1, False)


def test_a_first_comparison_looks_at_no_file(path: Path, checkpoint: Path) -> None:
    """Nor does one of another network: all its images are to be embedded."""

    def entries() -> list[tuple[str, str | None, str]]:
        raise AssertionError("looked at the files")

    def compared(inputs: dict[str, str], engine: str | None) -> tuple[int, bool]:
        found = Bundle(path).compare(inputs, engine=engine, source=SOURCE, total=8, entries=entries)
        assert not found.empty
        return len(found.new), found.fresh

    assert compared(INPUTS, "torch") == (8, True)
    updated(path, checkpoint, FILES)
    assert compared({**INPUTS, "recipe": "another"}, "torch") == (8, True)
    assert compared(INPUTS, "openvino") == (8, True)
    with pytest.raises(AssertionError, match="looked at the files"):
        compared(INPUTS, None)


def test_what_is_new_is_embedded_and_what_is_gone_is_removed(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES[:6])
    with begun(path, checkpoint, Files(FILES[2:])) as building:
        assert (building.plan.total, building.plan.first_id) == (2, 6)
    generation = updated(path, checkpoint, FILES[2:])
    assert generation.ids.tolist() == [2, 3, 4, 5, 6, 7]
    assert outcomes(generation) == {**dict.fromkeys("cdef", "kept"), **dict.fromkeys("gh", "indexed")}
    assert generation.catalogue.gone() == [Gone(SOURCE, "a", 0, "removed"), Gone(SOURCE, "b", 1, "removed")]
    assert generation.manifest.ledger["removed"] == 2
    assert generation.catalogue.image(7).label == "dog"


def test_a_renamed_image_keeps_its_id_and_has_the_new_name_and_label(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    generation = updated(path, checkpoint, [*FILES[1:], File("z", "A", 2)])
    assert generation.ids.tolist() == list(range(8))
    image = generation.catalogue.image(0)
    assert (image.names, image.label) == (("z",), "frog")
    ledger = generation.manifest.ledger
    assert (ledger["kept"], ledger["indexed"], ledger["renamed"], ledger["removed"]) == (8, 0, 1, 0)
    assert generation.catalogue.gone() == [Gone(SOURCE, "a", 0, "renamed")]
    assert generation.segments[0].name == "0001"


def test_of_two_new_names_of_an_image_one_is_its_name_and_one_a_duplicate(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    generation = updated(path, checkpoint, [*FILES[1:], File("y", "A"), File("z", "A")])
    assert (outcomes(generation)["y"], outcomes(generation)["z"]) == ("kept", "duplicate")
    assert generation.catalogue.image(0).names == ("y", "z")


def test_two_names_that_are_exchanged_exchange_their_images(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    first, second, *others = FILES
    swapped = [first._replace(bytes="B", time=1), second._replace(bytes="A", time=1), *others]
    generation = updated(path, checkpoint, swapped)
    assert [generation.catalogue.image(image_id).name for image_id in (0, 1)] == ["b", "a"]
    assert (generation.manifest.ledger["kept"], generation.manifest.ledger["renamed"]) == (8, 2)


def test_a_touched_file_is_kept_and_one_with_another_label_is_relabelled(path: Path, checkpoint: Path) -> None:
    first, second, *others = [*FILES, File("a again", "A")]
    updated(path, checkpoint, [first, second, *others])
    generation = updated(path, checkpoint, [first._replace(time=1), second._replace(label=-1), *others])
    assert generation.ids.tolist() == list(range(8))
    assert generation.catalogue.image(0).names == ("a", "a again")  # in the order in which they came
    assert generation.catalogue.image(1).label is None
    assert (generation.manifest.ledger["kept"], generation.manifest.ledger["duplicate"]) == (8, 1)
    assert generation.manifest.ledger["renamed"] == 0


def test_a_file_with_other_bytes_is_another_image(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    generation = updated(path, checkpoint, [FILES[0]._replace(bytes="other", time=1), *FILES[1:]])
    assert generation.ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (generation.removed.tolist(), generation.catalogue.image(8).name) == ([0], "a")
    assert generation.manifest.ledger["removed"] == 1


def test_equal_content_is_embedded_once_and_lives_as_long_as_a_name(path: Path, checkpoint: Path) -> None:
    generation = updated(path, checkpoint, [*FILES, File("a again", "A")])
    assert generation.catalogue.image(0).names == ("a", "a again")
    generation = updated(path, checkpoint, [*FILES[1:], File("a again", "A"), File("a third", "A", 1)])
    image = generation.catalogue.image(0)
    assert (image.name, image.names, image.label) == ("a again", ("a again", "a third"), None)
    assert outcomes(generation)["a third"] == "duplicate"
    assert generation.catalogue.gone() == [Gone(SOURCE, "a", 0, "dropped")]
    generation = updated(path, checkpoint, FILES[1:])
    assert generation.removed.tolist() == [0]


def test_an_image_that_comes_back_is_a_new_one(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    updated(path, checkpoint, FILES[1:])
    generation = updated(path, checkpoint, FILES)
    assert (generation.ids.tolist(), generation.removed.tolist()) == ([1, 2, 3, 4, 5, 6, 7, 8], [0])


def test_a_file_that_cannot_be_read_is_tried_again_when_it_has_changed(path: Path, checkpoint: Path) -> None:
    broken = File("broken", "")
    updated(path, checkpoint, [*FILES, broken])
    generation = updated(path, checkpoint, [*FILES, broken, File("new", "NEW")])
    assert outcomes(generation)["broken"] == "skipped"
    with begun(path, checkpoint, Files([*FILES, broken._replace(bytes="WHOLE"), File("new", "NEW")])) as building:
        assert building.plan.total == 1
    generation = updated(path, checkpoint, [*FILES, broken._replace(bytes="WHOLE"), File("new", "NEW")])
    assert outcomes(generation)["broken"] == "indexed"
    assert generation.catalogue.skipped() == []


def test_sources_share_images_and_lose_only_their_own_names(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    theirs = Files([File("a", "A", 0), File("x", "X", 1)], "/theirs", ("owl", "cat"))
    build(path, checkpoint, theirs)
    generation = Bundle(path).current()
    assert generation.catalogue.sources() == [SOURCE, "/theirs"]
    assert generation.catalogue.image(0).names == ("a", "a")
    assert outcomes(generation, "/theirs") == {"a": "duplicate", "x": "indexed"}
    assert (generation.catalogue.image(9).label, generation.manifest.classes) == ("cat", ("cat", "dog", "frog", "owl"))
    generation = updated(path, checkpoint, FILES[1:])
    assert generation.catalogue.image(0).names == ("a",)
    assert generation.catalogue.image(0).label == "owl"
    assert changes(path, theirs).empty
    generation = Bundle(path).forget({"/theirs": ["a", "x"]})
    assert (generation.ids.tolist(), generation.catalogue.sources()) == (list(range(1, 8)), [SOURCE, "/theirs"])
    assert updated(path, checkpoint, FILES[2:]).catalogue.sources() == [SOURCE]


def test_two_classes_with_one_name_stay_two(path: Path, checkpoint: Path) -> None:
    """As the cranes, a bird and a machine, of ILSVRC-2012."""
    build(path, checkpoint, Files(FILES, classes=("crane", "owl", "crane")))
    theirs = Files([File("x", "X", 2), File("y", "Y", 3)], "/theirs", ("crane", "fox", "crane", "crane"))
    generation = build(path, checkpoint, theirs)
    assert generation.manifest.classes == ("crane", "owl", "crane", "fox", "crane")
    assert generation.catalogue.labels().tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 4]


def test_images_removed_by_id_stay_out_until_their_file_changes(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, [*FILES, File("a again", "A")])
    generation = Bundle(path).remove([0])
    whole(generation)
    assert (generation.ids.tolist(), generation.manifest.ledger["removed"]) == (list(range(1, 8)), 1)
    found = changes(path, Files([*FILES, File("a again", "A")]))
    assert (found.empty, found.kept) == (True, 9)
    generation = updated(path, checkpoint, [*FILES, File("a again", "A"), File("new", "NEW")])
    assert outcomes(generation)["a"] == outcomes(generation)["a again"] == "excluded"
    assert generation.manifest.ledger["excluded"] == 2
    generation = updated(path, checkpoint, [FILES[0]._replace(time=1), *FILES[1:], File("new", "NEW")])
    assert (outcomes(generation)["a"], generation.catalogue.image(10).name) == ("indexed", "a")


def test_images_removed_by_id_stay_out_of_another_networks_index(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    build(path, checkpoint, Files([File("x", "X", 0)], "/theirs", ("owl",)))
    Bundle(path).remove([3, 8])
    run = Run({**INPUTS, "weights": "another network"})
    generation = updated(path, checkpoint, FILES, run=run)
    assert (outcomes(generation)["d"], generation.manifest.rows, generation.removed.tolist()) == ("excluded", 7, [])
    assert generation.catalogue.sources() == [SOURCE, "/theirs"]
    theirs = Files([File("x", "X", 0), File("y", "Y", 0)], "/theirs", ("owl",))
    generation = build(path, checkpoint, theirs, run)
    assert outcomes(generation, "/theirs") == {"x": "excluded", "y": "indexed"}
    assert generation.manifest.classes == ("cat", "dog", "frog", "owl")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([2, 8], "no image 8 in this collection; nothing is removed"),
        ([-1, *range(6, 20)], "no image -1, 8, 9, 10, 11 and 8 more in this collection; nothing is removed"),
        (range(8), "no image would be left; what is published stays as it is"),
    ],
)
def test_what_cannot_be_removed_is_told_and_nothing_is(path: Path, checkpoint: Path, ids: list[int], said: str) -> None:
    before = contents(updated(path, checkpoint, FILES))
    with pytest.raises(BadBundle, match=said):
        Bundle(path).remove(ids)
    assert contents(Bundle(path).current(verify=True)) == before
    assert Bundle(path).remove([2]).number == 2


def test_what_cannot_be_forgotten_is_told(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    for gone, name in (({SOURCE: ["a", "z"]}, "z"), ({"/elsewhere": ["a"]}, "a")):
        with pytest.raises(BadBundle, match=f"the collection has no image called {name}; nothing is removed"):
            Bundle(path).forget(gone)


def test_a_source_that_lost_all_its_images_leaves_the_collection_as_it_is(path: Path, checkpoint: Path) -> None:
    """As an empty folder where a disk was mounted."""
    updated(path, checkpoint, FILES)
    with pytest.raises(BadBundle, match="no image would be left"):
        build(path, checkpoint, Files([]))
    assert Bundle(path).current(verify=True).manifest.rows == 8


def test_an_empty_collection_is_told(path: Path, checkpoint: Path) -> None:
    with pytest.raises(BadBundle, match=f"{SOURCE}: no image to index"):
        build(path, checkpoint, Files([]))
    with pytest.raises(BadBundle, match="no index here"):
        Bundle(path).current()


def test_two_images_of_one_name_are_told(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    with pytest.raises(BadBundle, match=f"{SOURCE}: two of its images are called b"):
        changes(path, Files([*FILES, File("b", "OTHER")]))


def test_a_removal_does_not_throw_away_an_unfinished_build(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    files = [*FILES, *collection(30).files]
    with begun(path, checkpoint, Files(files)) as building:
        known = building.known()
        building.append(Files(collection(30).files).block(0, 10, known))
    with pytest.raises(BadBundle, match="10 of 30 images are done: finish that build, or delete it first"):
        Bundle(path).remove([1])
    updated(path, checkpoint, files)
    assert Bundle(path).remove([1]).number == 3


def test_what_was_published_for_other_files_is_not_pointed_at(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file goes, or comes back, after a kill between publish and point: the work list is the same."""
    new = File("new", "NEW")
    updated(path, checkpoint, FILES)

    def killed(files: list[File]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(BundleFolder, "point", lambda *_: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                build(path, checkpoint, Files(files))

    with begun(path, checkpoint, Files([*FILES[2:], new])) as building:
        building.append(Files([new]).block(0, 1, building.known()))
    killed([*FILES[1:], new])
    assert updated(path, checkpoint, [*FILES[2:], new]).ids.tolist() == [2, 3, 4, 5, 6, 7, 9]
    killed([*FILES[3:], new])
    assert updated(path, checkpoint, [*FILES[2:6], new]).manifest.rows == 5


def test_a_source_with_many_changes_equals_one_that_was_always_so(path: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Up to the ids: the same images, names, labels and features, whatever came between."""
    rng = np.random.default_rng(0)
    files = list(FILES)
    for turn in range(12):
        files = [file for file in files if rng.random() > 0.2]
        names = {file.name for file in files}
        some = [File(f"{n}", str(rng.integers(30)), int(n % 3)) for n in rng.integers(0, 60, 5).tolist()]
        files += {file.name: file._replace(time=turn + 1) for file in some if file.name not in names}.values()
        generation = updated(path, checkpoint, files)
    straight = updated(tmp_path / "straight", checkpoint, files)

    def images(generation: Generation) -> dict[str, tuple[set[str], bytes]]:
        found = (generation.catalogue.image(image_id) for image_id in generation.ids.tolist())
        return {i.content: (set(i.names), generation.rows([i.image_id]).tobytes()) for i in found}

    assert images(generation) == images(straight)
    assert generation.manifest.width == WIDTH


def test_another_layout_is_a_change(path: Path, checkpoint: Path) -> None:
    updated(path, checkpoint, FILES)
    flat = changes(path, Files(FILES))
    run = replace(Run(), layout=replace(Run().layout, kind="panorama", components=8, leading=4))
    found = changes(path, Files(FILES), run)
    assert (flat.empty, found.empty, found.relayout, found.new) == (True, False, True, [])
    generation = updated(path, checkpoint, FILES, run=run)
    assert (generation.manifest.segments, generation.manifest.index["kind"]) == (("0002",), "panorama")
    assert generation.ids.tolist() == list(range(8))
