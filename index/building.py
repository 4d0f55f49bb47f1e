"""A build in progress: it grows block by block, and continues after the last finished block when it was killed.

Of blocks whose images have changed since, and of all behind them, nothing is kept.

bundles/<name>/building/ holds three things. plan.json says what is being built; it is written last, and without it the
folder is ignored. work.sqlite holds the rows of the finished blocks, and so decides what is finished. generation/
becomes the published folder by one rename. Features are written and synced before their rows are committed: the
features file may hold more than the catalogue says, and the surplus is cut off.
"""

import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

import files
from index.bundle_folder import KEPT, BundleFolder, DiskFull, writing
from index.catalogue import Identity
from index.catalogue_writer import Block, CatalogueWriter
from index.generation import FILES, MANIFEST, BadBundle, Generation, Manifest, fingerprint
from index.plan import Plan

__all__ = ["Building"]

ROW = 4096  # bytes: an image's row with its thumbnail, until the first block tells; 15 KB for a photograph


class Building:
    """A build in progress. Close it, or leave its `with` block, so that another process can write to the bundle."""

    def __init__(self, folder: BundleFolder, plan: Plan, checkpoint: Path, lock: IO[bytes], identity: Identity) -> None:
        """Continue the build in building/ where this plan can, after the last block that `identity` confirms.

        Else start over. `lock` is the bundle's lock; closing the building closes it. Raises OSError, BadBundle.
        """
        self._folder, self._checkpoint, self._lock = folder, checkpoint, lock
        self._root = folder.root / "building"
        self._generation = self._root / "generation"
        self.plan = self._resumed(plan) or self._started(plan)
        try:
            self._catalogue = CatalogueWriter(self._work)
            self._forget_what_changed(plan, identity)
            self._rows = len(self._catalogue.ids())  # whose features are finished
        except sqlite3.Error as error:
            raise BadBundle(f"{self._work}: cannot be read: {error}; delete {self._root} to start over") from error
        if not self._is_published and _size(self._features) < self._finished_bytes:
            self.close()
            raise BadBundle(f"{self._features}: shorter than its catalogue says; delete {self._root} to start over")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def done(self) -> int:
        """Images 0 ... done - 1 are finished, including those that were skipped."""
        return self._catalogue.done

    def append(self, block: Block) -> None:
        """Add the next block and sync it to the disk. Raises BadBundle for a block that does not fit, DiskFull.

        DiskFull, too, when the first block, which is kept, shows that the disk is too small for the rest.
        """
        self.plan.check(block, self.done)
        with writing(self._root), self._features.open("r+b", buffering=0) as file:
            file.truncate(self._finished_bytes)
            file.seek(0, os.SEEK_END)
            files.write_all(file, np.ascontiguousarray(block.features, "<f4").data)
            os.fsync(file.fileno())
            self._catalogue.record(block)
            self._rows += len(block.ids)
            if block.start == 0:
                self.check_room()

    def check_room(self) -> None:
        """Raise DiskFull when the disk is too small for the rest, if images go on taking as much as those so far."""
        done, total = self.done, self.plan.total
        row = self._catalogue.size / done if done else ROW
        rest = (total - done) * (4 * self.plan.width + row)
        copies = total * row + self._checkpoint.stat().st_size  # that publishing makes
        needed, free = rest + copies * (not self._is_published), shutil.disk_usage(self._root).free
        if free < needed:
            place = self._folder.root
            raise DiskFull(f"{place}: about {needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free")

    def publish(self) -> Generation:
        """Publish the build as the bundle's current generation, with a copy of the checkpoint in it, and close.

        After an error the previous generation is still current, or the new one is; never a part of it. Raises
        BadBundle when images are left to append or when no image could be read, DiskFull.
        """
        if self.done < self.plan.total:
            raise BadBundle(f"{self._root}: only {self.done} of {self.plan.total} images are done")
        if not self._rows:
            why = self._catalogue.first_reason()
            raise BadBundle(f"{self._root}: none of the {self.plan.total} images could be read, the first: {why}")
        number, folder = self.plan.number, self._folder
        with writing(self._root):
            if not self._is_published:  # else an earlier process was killed between publish and point
                self._complete()
                folder.publish(self._generation, number)
            before = folder.current() or 0
            folder.remove([n for n in folder.numbers() if before < n < number])  # abandoned by a roll-back
            folder.point(number)
            self._catalogue.close()
            _discard(self._root)
            folder.remove(folder.numbers()[:-KEPT])
        self.close()  # only now: a build that began earlier would lose what _discard removes
        return Generation(folder.path(number))

    def close(self) -> None:
        """Release the bundle; a later build with an equal plan continues after what was appended."""
        self._catalogue.close()
        self._lock.close()

    @property
    def _work(self) -> Path:
        return self._root / "work.sqlite"

    @property
    def _features(self) -> Path:
        return self._generation / FILES["features"]

    @property
    def _finished_bytes(self) -> int:
        return files.NPY_HEADER + 4 * self.plan.width * self._rows

    @property
    def _is_published(self) -> bool:
        return self._folder.path(self.plan.number).exists()

    def _resumed(self, wanted: Plan) -> Plan | None:
        """Return the plan of the build in building/ if it makes what is wanted and can continue, else None."""
        found = Plan.read(self._root / "plan.json")
        if found is None or not wanted.continues(found) or found.number == self._folder.current():
            return None
        if not _size(self._work):  # only the catalogue knows which blocks are finished
            return None
        return replace(wanted, number=found.number)

    def _forget_what_changed(self, plan: Plan, identity: Identity) -> None:
        """Keep the blocks up to the first that has changed; start over where what is published is not all as wanted."""
        agreed = self._catalogue.agreed(identity)
        if self._is_published and not agreed == self.done == plan.total:
            self._catalogue.close()
            self.plan = self._started(plan)
            self._catalogue = CatalogueWriter(self._work)
        elif agreed < self.done:
            self._catalogue.keep(agreed)

    def _started(self, plan: Plan) -> Plan:
        _discard(self._root)
        files.make_folder(self._root)
        self._generation.mkdir()
        self._features.write_bytes(bytes(files.NPY_HEADER))
        CatalogueWriter.create(self._work, plan.classes)
        for path in (self._features, self._work, self._generation, self._root):
            files.sync(path)
        plan.write(self._root / "plan.json")
        return plan

    def _complete(self) -> None:
        """Bring generation/ into its published form, whatever state a killed process left it in."""
        parts = {part: self._generation / name for part, name in FILES.items()}
        with parts["features"].open("r+b", buffering=0) as file:
            file.truncate(self._finished_bytes)
            files.write_all(file, files.npy_header("<f4", (self._rows, self.plan.width)))
        with ThreadPoolExecutor(1, "fingerprint") as thread:  # by far the largest file: read while others are written
            features = thread.submit(fingerprint, parts["features"])
            np.save(parts["ids"], self._catalogue.ids())
            self._catalogue.write_to(parts["catalogue"])
            shutil.copyfile(self._checkpoint, parts["checkpoint"])
            for path in parts.values():
                files.sync(path)
            others = {part: fingerprint(path) for part, path in parts.items() if part != "features"}
        inputs = {**self.plan.inputs, "images": self._catalogue.identity()}
        manifest = Manifest(
            number=self.plan.number,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            rows=self._rows,
            width=self.plan.width,
            classes=self.plan.classes,
            inputs=inputs,
            fingerprints={**inputs, **others, "features": features.result()},
            sizes={part: path.stat().st_size for part, path in parts.items()},
            engine=self.plan.engine,
        )
        files.replace(self._generation / MANIFEST, manifest.to_json().encode())


def _size(file: Path) -> int:
    """Return a file's size in bytes, 0 for one that does not exist."""
    return file.stat().st_size if file.exists() else 0


def _discard(root: Path) -> None:
    """Remove a build: first its plan, so that it is ignored should the process be killed before the rest is gone."""
    (root / "plan.json").unlink(missing_ok=True)
    shutil.rmtree(root, ignore_errors=True)
