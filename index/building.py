"""A generation being built: it grows a block at a time, and wherever it is killed it goes on from there.

In bundles/<name>/building/, plan.json says what is being built (written last: without it the folder counts for
nothing), work.sqlite holds the finished blocks' rows and is the judge of what is finished, and generation/ becomes
the published folder by one rename. Features are written and synced before their rows are committed, so the features
file is never behind the catalogue; what it has beyond it is cut off.
"""

import os
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

import files
from index.bundle_folder import KEPT, BundleFolder, writing
from index.catalogue import Block, CatalogueWriter
from index.generation import FILES, MANIFEST, BadBundle, Generation, Manifest, fingerprint
from index.plan import Plan

__all__ = ["Building"]


class Building:
    """A build in progress. Close it, or leave its `with`, to let another process write to the bundle."""

    def __init__(self, folder: BundleFolder, plan: Plan, checkpoint: Path, lock: IO[bytes]) -> None:
        """Go on with what was built by an equal plan (its number stays), else start over. Raises OSError, BadBundle.

        `lock` is the bundle's; it is closed with the building.
        """
        self._folder, self._checkpoint, self._lock = folder, checkpoint, lock
        self._root = folder.root / "building"
        self._generation = self._root / "generation"
        self.plan = self._resumed(plan) or self._started(plan)
        try:
            self._catalogue = CatalogueWriter(self._work)
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
        """Images 0 ... done - 1 are finished, those that were skipped included."""
        return self._catalogue.done

    def append(self, block: Block) -> None:
        """Add the next block; it is durable on return. Raises BadBundle for a block that does not fit, DiskFull."""
        self.plan.check(block, self.done)
        with writing(self._root), self._features.open("r+b", buffering=0) as file:
            file.truncate(self._finished_bytes)
            file.seek(0, os.SEEK_END)
            files.write_all(file, block.features.astype("<f4").tobytes())
            os.fsync(file.fileno())
            self._catalogue.record(block)
        self._rows += len(block.ids)

    def publish(self) -> Generation:
        """Make what was built the bundle's current generation, with a copy of the checkpoint in it, and close.

        Raises BadBundle when there are images left to append, or none that could be read; DiskFull. The generation
        that was current stays so until the last step.
        """
        if self.done < self.plan.total:
            raise BadBundle(f"{self._root}: only {self.done} of {self.plan.total} images are done")
        if not self._rows:
            raise BadBundle(f"{self._root}: none of the {self.plan.total} images could be read, nothing to publish")
        number, folder = self.plan.number, self._folder
        with writing(self._root):
            if not self._is_published:  # else a process was killed between the two steps
                self._complete()
                folder.publish(self._generation, number)
            before = folder.current() or 0
            folder.remove([n for n in folder.numbers() if before < n < number])  # rolled back from
            folder.point(number)
            self._catalogue.close()
            _discard(self._root)
            folder.remove(folder.numbers()[:-KEPT])
        self.close()  # only now: a build that began earlier would lose what _discard removes
        return Generation(folder.path(number))

    def close(self) -> None:
        """Let go of the bundle; what was appended stays for the next build."""
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
        """The plan of the build in building/, where it makes what is wanted and can go on."""
        found = Plan.read(self._root / "plan.json")
        if found is None or not found.makes_the_same(wanted) or found.number == self._folder.current():
            return None
        return found if _size(self._work) else None  # without its catalogue nobody knows what is finished

    def _started(self, plan: Plan) -> Plan:
        _discard(self._root)
        self._generation.mkdir(parents=True)
        self._features.write_bytes(bytes(files.NPY_HEADER))
        CatalogueWriter.create(self._work, plan.classes)
        for path in (self._features, self._work, self._generation, self._root):
            files.sync(path)
        plan.write(self._root / "plan.json")
        return plan

    def _complete(self) -> None:
        """Bring generation/ into its published form, from any state that a killed process may have left it in."""
        parts = {part: self._generation / name for part, name in FILES.items()}
        with parts["features"].open("r+b", buffering=0) as file:
            file.truncate(self._finished_bytes)
            files.write_all(file, files.npy_header("<f4", (self._rows, self.plan.width)))
        np.save(parts["ids"], self._catalogue.ids())
        self._catalogue.write_to(parts["catalogue"])
        shutil.copyfile(self._checkpoint, parts["checkpoint"])
        for path in parts.values():
            files.sync(path)
        manifest = Manifest(
            number=self.plan.number,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            rows=self._rows,
            width=self.plan.width,
            classes=self.plan.classes,
            inputs=self.plan.inputs,
            fingerprints={**self.plan.inputs, **{part: fingerprint(path) for part, path in parts.items()}},
            sizes={part: path.stat().st_size for part, path in parts.items()},
        )
        files.replace(self._generation / MANIFEST, manifest.to_json().encode())


def _size(file: Path) -> int:
    """Bytes; 0 for a file that is not there."""
    return file.stat().st_size if file.exists() else 0


def _discard(root: Path) -> None:
    """Remove a build; without its plan it no longer counts, should the rest take a second attempt."""
    (root / "plan.json").unlink(missing_ok=True)
    shutil.rmtree(root, ignore_errors=True)
