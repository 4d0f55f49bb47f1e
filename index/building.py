"""A build in progress: it grows block by block, and continues after the last finished block when it was killed.

Of blocks whose images have changed since, and of all behind them, nothing is kept.
"""

import os
import shutil
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

import files
from index import assembly
from index.assembly import Measure
from index.bundle_folder import KEPT, BundleFolder, DiskFull, writing
from index.catalogue import Identity
from index.generation import Generation
from index.manifest import BadBundle
from index.plan import Leaving, Plan
from index.work import Block, Work
from index.work_folder import WorkFolder, size

__all__ = ["Building"]

ROW = 4096  # bytes: an image's row with its thumbnail, until the first block tells; 15 KB for a photograph


class Building:
    """A build in progress. Close it, or leave its `with` block, so that another process can write to the bundle."""

    def __init__(
        self,
        folder: BundleFolder,
        plan: Plan,
        leaving: Leaving,
        checkpoint: Path,
        base: Generation | None,
        lock: IO[bytes],
        identity: Identity,
    ) -> None:
        """Continue the build in building/ where this plan can, after the last block that `identity` confirms.

        Else start over. base: the opened generation that the plan starts from. `lock` is the bundle's lock; closing the
        building closes both. Raises OSError, BadBundle.
        """
        self._folder, self._leaving, self._checkpoint = folder, leaving, checkpoint
        self._base, self._lock = base, lock
        self._work = WorkFolder(folder)
        self.plan = self._work.resumed(plan) or self._work.started(plan)
        try:
            self._record = Work(self._work.record)
            self._forget_what_changed(plan, identity)
            self._rows = self._record.rows  # whose features are finished
            self._contents = self._record.contents()  # of all images that are known
        except sqlite3.Error as error:
            raise self._work.unreadable(error) from error
        if base is not None and not plan.fresh:
            self._contents |= base.catalogue.contents()
        if not self._is_published and size(self._work.features) < self._finished_bytes:
            self.close()
            raise BadBundle(
                f"{self._work.features}: shorter than its record says; delete {self._work.root} to start over"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def done(self) -> int:
        """Positions 0 ... done - 1 of the work list are finished, including those that were skipped."""
        return self._record.done

    def known(self) -> set[str]:
        """Return the content hashes of the images that need not be embedded: of the collection, and of this build."""
        return set(self._contents)

    def append(self, block: Block) -> None:
        """Add the next block and sync it to the disk. Raises BadBundle for a block that does not fit, DiskFull.

        DiskFull, too, when the first block, which is kept, shows that the disk is too small for the rest.
        """
        self.plan.check(block, self.done)
        embedded = self._new_contents(block)
        with writing(self._work.root), self._work.features.open("r+b", buffering=0) as file:
            file.truncate(self._finished_bytes)
            file.seek(0, os.SEEK_END)
            files.write_all(file, np.ascontiguousarray(block.features, "<f4").data)
            os.fsync(file.fileno())
            self._record.record(block)
            self._rows += len(block.ids)
            self._contents |= embedded
            if block.start == 0:
                self.check_room()

    def check_room(self) -> None:
        """Raise DiskFull when the disk is too small for the rest, if images go on taking as much as those so far."""
        done, total = self.done, self.plan.total
        row = self._record.size / done if done else ROW
        components = self.plan.index["components"] + self.plan.index["leading"]
        rest = (total - done) * (4 * self.plan.width + row) + total * 4 * components
        if self._base is None or self.plan.fresh:
            older = self._checkpoint.stat().st_size
        else:  # links to the checkpoint and the segments, where links can be and the segments stay
            older = assembly.copied(self._base, self.plan)
        copies = total * row + older  # that publishing makes
        needed, free = rest + copies * (not self._is_published), shutil.disk_usage(self._work.root).free
        if free < needed:
            place = self._folder.root
            raise DiskFull(f"{place}: about {needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free")

    def publish(self, measure: Measure | None = None) -> Generation:
        """Publish the build as the bundle's current generation, and close.

        measure: called with the finished generation before it is published; what it returns becomes the manifest's
        `quality`. It may write files into the generation's folder, each through files.replacing: a file that is there
        may be the previous generation's, too. After an error the previous generation is still current, or the new one
        is; never a part of it. Raises BadBundle when images are left to append or when no image is left, DiskFull.
        """
        if self.done < self.plan.total:
            raise BadBundle(f"{self._work.root}: only {self.done} of {self.plan.total} images are done")
        if self.plan.fresh and not self._rows:
            why = self._record.first_reason()
            raise BadBundle(f"{self._work.root}: none of the {self.plan.total} images could be read, the first: {why}")
        number, folder = self.plan.number, self._folder
        with writing(self._work.root):
            if not self._is_published:  # else an earlier process was killed between publish and point
                self._complete(measure)
                folder.publish(self._work.generation, number, self.plan.first_id + self.plan.total)
            before = folder.current() or 0
            folder.remove([n for n in folder.numbers() if before < n < number])  # abandoned by a roll-back
            folder.point(number)
            self._record.close()
            self._work.discard()
            folder.remove(folder.numbers()[:-KEPT])
        self.close()  # only now: a build that began earlier would lose what _discard removes
        return Generation(folder.path(number))

    def close(self) -> None:
        """Release the bundle; a later build with an equal plan continues after what was appended."""
        self._record.close()
        if self._base is not None:
            self._base.close()
        self._lock.close()

    @property
    def _finished_bytes(self) -> int:
        return files.NPY_HEADER + 4 * self.plan.width * self._rows

    @property
    def _is_published(self) -> bool:
        return self._work.is_published(self.plan)

    def _forget_what_changed(self, plan: Plan, identity: Identity) -> None:
        """Keep the blocks up to the first that has changed; start over where what is published is not all as wanted."""
        agreed = self._record.agreed(identity)
        if self._is_published and not agreed == self.done == plan.total:
            self._record.close()
            self.plan = self._work.started(plan)
            self._record = Work(self._work.record)
        elif agreed < self.done:
            self._record.keep(agreed)

    def _complete(self, measure: Measure | None) -> None:
        """Make generation/ whole, whatever state a killed process left it in."""
        with self._work.features.open("r+b", buffering=0) as file:
            file.truncate(self._finished_bytes)
            files.write_all(file, files.npy_header("<f4", (self._rows, self.plan.width)))
        files.sync(self._work.features)
        where = (self._work.generation, self._record, self._work.features)
        assembly.assemble(*where, self.plan, self._leaving, self._checkpoint, self._base)
        if measure is not None:
            assembly.measure(self._work.generation, measure)
        Generation(self._work.generation).close()  # what cannot be opened is not published

    def _new_contents(self, block: Block) -> set[str]:
        """Return the contents that the block adds. Raises BadBundle for one embedded twice, or said to be known."""
        ids, new = set(block.ids.tolist()), set[str]()
        for entry in block.entries:
            if entry.content is None or entry.skipped is not None:
                continue
            if (entry.image_id in ids) == (entry.content in self._contents or entry.content in new):
                how = "embedded again" if entry.image_id in ids else "neither embedded nor known"
                raise BadBundle(f"images {block.start} to {block.stop}: {entry.name} is {how}")
            new.add(entry.content)
        return new
