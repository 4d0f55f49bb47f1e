"""What is damaged, foreign or in the way is told in one line; what was published stays."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from index import BadBundle, Bundle, DamagedPart
from index.manifest import Manifest
from tests.index.blocks import begun, build, changes, collection

PARTS = ("features.npy", "ids.npy", "thumbnails.sqlite", "lengths.npy", "catalogue.sqlite", "removed.npy")


@pytest.mark.parametrize("name", [*PARTS, "checkpoint.safetensors"])
def test_damage_is_told_by_file(path: Path, checkpoint: Path, name: str) -> None:
    generation = build(path, checkpoint, collection(20))
    (file,) = generation.path.rglob(name)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BadBundle, match=f"{name}: (not the file that was published|cannot be read)"):
        Bundle(path).current(verify=True)
    file.write_bytes(whole[:-1])
    with pytest.raises(BadBundle, match=f"{name}: {len(whole) - 1} bytes, where the manifest says {len(whole)}$"):
        Bundle(path).current()
    with pytest.raises(BadBundle, match=f"{name}: .* go back to the generation before, or delete {path} to start over"):
        changes(path, collection(20))
    file.unlink()
    with pytest.raises(BadBundle, match=f"{name}: missing"):
        Bundle(path).current()


@pytest.mark.parametrize("left", [0, 4096])  # bytes: of a file that is no database, or of one whose tables are damaged
def test_a_damaged_database_is_told_by_file_when_it_is_read(path: Path, checkpoint: Path, left: int) -> None:
    generation = build(path, checkpoint, collection(20))
    for name in ("segments/0001/thumbnails.sqlite", "catalogue.sqlite"):
        file = generation.path / name
        file.write_bytes(file.read_bytes()[:left].ljust(file.stat().st_size, b"\xff"))
        with pytest.raises(BadBundle, match=rf"{name}: cannot be read: .*(not a database|malformed)"):
            Bundle(path).current().catalogue.image(8)
    with pytest.raises(BadBundle, match=r"catalogue\.sqlite: cannot be read"):
        changes(path, collection(20))


def test_a_manifest_that_is_changed_by_hand_is_told(path: Path, checkpoint: Path) -> None:
    manifest = build(path, checkpoint, collection(20)).path / "manifest.json"
    fields = json.loads(manifest.read_text())
    for name in fields:
        if name not in ("format", "checksum"):
            manifest.write_text(json.dumps({**fields, name: "other"}))
            with pytest.raises(BadBundle, match="changed after it was published"):
                Bundle(path).current()
    for text in ("", "{", "[]", '"text"', "{}", json.dumps({**fields, "checksum": None}), "\0", "[" * 100_000):
        manifest.write_text(text)
        with pytest.raises(BadBundle, match=r"manifest\.json: (not a manifest|it was changed)"):
            Bundle(path).current()
    manifest.write_bytes(b"\xff")
    with pytest.raises(BadBundle, match="not a manifest"):
        Bundle(path).current()


def test_another_format_is_told(path: Path, checkpoint: Path) -> None:
    manifest = build(path, checkpoint, collection(20)).path / "manifest.json"
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**fields, "format": 3}))
    for use in (Bundle(path).current, lambda: changes(path, collection(20))):
        with pytest.raises(BadBundle, match="not of format 2, but of a newer version of this code"):
            use()


def test_a_bundle_of_format_1_is_told_and_is_built_again(path: Path, checkpoint: Path) -> None:
    old = path / "generations" / "0004"
    old.mkdir(parents=True)
    (path / "CURRENT").write_text("0004\n")
    (old / "manifest.json").write_text(json.dumps({"number": 4, "format": 1, "rows": 3}))
    with pytest.raises(BadBundle, match=r"its format is 1, this code reads 2: build .* again with scripts/build_index"):
        Bundle(path).current()
    generation = build(path, checkpoint, collection(20))
    assert (generation.number, generation.manifest.rows) == (5, 17)
    with pytest.raises(BadBundle, match="its format is 1"):
        Bundle(path).roll_back()
    assert Bundle(path).current(verify=True).number == 5


def test_a_catalogue_or_ids_of_other_images_than_the_manifest_says_are_told(path: Path, checkpoint: Path) -> None:
    """Files that fit each other by size and checksum, and still not together: made by broken code, or with effort."""
    generation = build(path, checkpoint, collection(20))
    manifest, ids = generation.manifest, generation.path / "segments/0001/ids.npy"

    def say(**fields: object) -> None:
        text = json.loads(manifest.to_json()) | fields
        changed = Manifest(**{name: value for name, value in text.items() if name not in ("format", "checksum")})
        parts = {name: manifest.parts[name] for name in manifest.parts}
        changed = Manifest(**{**vars(changed), "parts": parts, "segments": tuple(changed.segments)})
        (generation.path / "manifest.json").write_text(changed.to_json())

    say(rows=16)
    with pytest.raises(BadBundle, match="17 rows of 48 numbers, the manifest says 16 of 48"):
        Bundle(path).current()
    say(width=40)
    with pytest.raises(BadBundle, match="17 rows of 48 numbers, the manifest says 17 of 40"):
        Bundle(path).current()
    say()
    np.save(ids, generation.ids[::-1])
    with pytest.raises(BadBundle, match="do not ascend"):
        Bundle(path).current()
    np.save(ids, np.arange(34, dtype=np.int32))
    with pytest.raises(BadBundle, match=r"should hold int64 in 1 dimensions, not int32 \(34,\)"):
        Bundle(path).current()


def test_a_current_that_is_no_number_is_told(path: Path, checkpoint: Path) -> None:
    build(path, checkpoint, collection(20))
    (path / "CURRENT").write_text("latest")
    with pytest.raises(BadBundle, match="should hold a generation's number"):
        Bundle(path).current()
    with pytest.raises(BadBundle, match="should hold a generation's number"):
        begun(path, checkpoint)
    (path / "CURRENT").write_text("0001")
    (path / "NEXT").write_text("soon")
    with pytest.raises(BadBundle, match="NEXT: should hold two numbers"):
        begun(path, checkpoint)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadBundle, match="file"):
        begun(tmp_path / "file", checkpoint)


def test_verifying_pauses_after_every_block_and_may_be_stopped_there(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = build(path, checkpoint, collection(20))
    monkeypatch.setattr("index.generation.BLOCK", 1000)
    pauses: list[int] = []
    generation.verify(lambda: pauses.append(1))
    assert len(pauses) == sum(-(-part.bytes // 1000) for part in generation.manifest.parts.values())

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generation.verify(stop)


def test_a_generation_that_is_removed_while_it_is_verified_is_read_to_the_end(path: Path, checkpoint: Path) -> None:
    generation = build(path, checkpoint, collection(20))
    generation.verify(lambda: shutil.rmtree(generation.path, ignore_errors=True))
    with pytest.raises(DamagedPart, match="cannot be read: No such file or directory"):
        generation.verify()
