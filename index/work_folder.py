"""bundles/<name>/building/, where a build in progress lies. What it has done is kept when its process is killed.

It holds four things. plan.json says what is being built; it is written last, and without it the folder is ignored.
work.sqlite records the finished blocks, and so decides what is finished. features.npy holds their rows: they are
written and synced before the record is committed, so the file may hold more, and the surplus is cut off. generation/
becomes the published folder by one rename.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import files
from index.bundle_folder import BundleFolder
from index.manifest import BadBundle
from index.plan import Plan
from index.work import Work

__all__ = ["WorkFolder"]


class WorkFolder:
    """The folder of a bundle's build in progress, which need not exist."""

    def __init__(self, folder: BundleFolder) -> None:
        self._folder = folder
        self.root = folder.root / "building"
        self.record = self.root / "work.sqlite"
        self.features = self.root / "features.npy"
        self.generation = self.root / "generation"
        self._plan = self.root / "plan.json"

    def resumed(self, wanted: Plan) -> Plan | None:
        """Return the plan of the build that is here if it makes what is wanted and can continue, else None."""
        found = Plan.read(self._plan)
        if found is None or not wanted.continues(found) or found.number == self._folder.current():
            return None
        if not size(self.record):  # only the record knows which blocks are finished
            return None
        plan = wanted.numbered_as(found)
        if self.is_published(plan):
            return plan if plan == found else None
        plan.write(self._plan)
        return plan

    def started(self, plan: Plan) -> Plan:
        """Start a build in place of the one that is here, and return its plan. Raises OSError.

        Nothing of that one may stay: its features.npy can be a second name of a published file.
        """
        self._plan.unlink(missing_ok=True)
        if self.root.exists():
            shutil.rmtree(self.root)
        files.make_folder(self.root)
        self.features.write_bytes(bytes(files.NPY_HEADER))
        Work.create(self.record)
        for path in (self.features, self.record, self.root):
            files.sync(path)
        plan.write(self._plan)
        return plan

    def is_published(self, plan: Plan) -> bool:
        """Return True where a process was killed after it had published this build, before it had removed it here."""
        return self._folder.path(plan.number).exists()

    def discard(self) -> None:
        """Remove the build: first its plan, so that what cannot be removed, or is not yet after a kill, is ignored."""
        self._plan.unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def refuse_to_lose(self, current: int, but: str | None = None) -> None:
        """Raise BadBundle where a build that starts from this generation has blocks that would be lost.

        but: the source whose build may be.
        """
        found = Plan.read(self._plan)
        if found is None or found.base != current or self.is_published(found) or not size(self.record):
            return
        if but is not None and found.source == but:
            return
        try:
            with closing(Work(self.record)) as record:
                done = record.done
        except sqlite3.Error as error:
            raise self.unreadable(error) from error
        if done:
            raise BadBundle(
                f"{self.root}: {done} of {found.total} images are done: finish that build, or delete it first"
            )

    def unreadable(self, error: sqlite3.Error) -> BadBundle:
        """Return the error of a build whose record is damaged."""
        return BadBundle(f"{self.record}: cannot be read: {error}; delete {self.root} to start over")


def size(file: Path) -> int:
    """Return a file's size in bytes, 0 for one that does not exist."""
    return file.stat().st_size if file.exists() else 0
