"""Bundles: folders in which the features of a collection are built, published, found, changed and rolled back."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import files
from index.assembly import Measure
from index.building import Building
from index.bundle_folder import NO_INDEX, BundleFolder, Busy, writing
from index.catalogue import Identity
from index.changes import Changes, Entries, changes_of
from index.generation import Generation
from index.layout import Layout
from index.manifest import MANIFEST, BadBundle, Manifest, OldFormat
from index.plan import Leaving, Plan
from index.work_folder import WorkFolder

__all__ = ["Bundle", "Published"]

FLAT = Layout()


@dataclass(frozen=True)
class Published:
    """A generation of a bundle, as a list of them shows it."""

    number: int
    is_current: bool
    created: str = ""  # UTC, ISO 8601
    rows: int = 0
    problem: str | None = None  # why nothing else is known


class Bundle:
    """The folder bundles/<name>/, which keeps the three newest generations. One of them is current."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._folder = BundleFolder(self.path)

    def current(self, *, verify: bool = False) -> Generation:
        """Open the current generation. With `verify`, read all of it and compare its SHA-256. Raises BadBundle."""
        number = self._folder.current()
        if number is None:
            raise BadBundle(f"{self.path}: {NO_INDEX}")
        try:
            generation = Generation(self._folder.path(number))
        except BadBundle:
            if self._folder.current() == number:
                raise
            return self.current(verify=verify)  # another process has published one meanwhile, and removed this one
        if verify:
            generation.verify()
        return generation

    def compare(
        self,
        inputs: Mapping[str, str],
        *,
        engine: str | None,
        source: str,
        total: int,
        entries: Entries,
        layout: Layout | None = None,
    ) -> Changes:
        """Return what `begin` would have to do to bring the current generation up to date with a source.

        inputs: fingerprints of what the features depend on beside the images. engine: what would compute them; None is
        whichever did. source: a key that tells this source from others. entries: called for the `total` inputs of it,
        where they have to be known. layout: how the rows should be laid out; None is as they are. A generation of
        format 1 counts as none. Raises BadBundle for one that is damaged, and where two inputs have one name.
        """
        number = self._folder.current()
        if number is None:
            return Changes(source, range(total))
        try:
            generation = self.current()
        except OldFormat:
            return Changes(source, range(total), base=number)
        except BadBundle as error:
            raise BadBundle(
                f"{error}; go back to the generation before, or delete {self.path} to start over"
            ) from error
        with closing(generation):
            made_so = dict(generation.manifest.inputs) == dict(inputs) and engine in (None, generation.manifest.engine)
            found = changes_of(generation, source, total, entries, fresh=not made_so)
            there = generation.layout
            other = layout is not None and (layout.files, layout.map) != (there.files, there.map)
            return replace(found, relayout=other)

    def begin(
        self,
        inputs: Mapping[str, str],
        checkpoint: Path,
        *,
        changes: Changes,
        identity: Identity,
        width: int,
        engine: str,
        classes: Sequence[str],
        layout: Layout = FLAT,
        spare: bool = False,
    ) -> Building:
        """Start a generation, or continue the one that was begun: after its unchanged blocks, see Building.done.

        inputs: fingerprints of what the features depend on beside the images, `weights` and `recipe` among them.
        checkpoint: the file that is copied into the generation. changes: what `compare` has found. identity: what the
        images start <= i < stop of the work list `changes.new` are now; asked for blocks that are done. width: d.
        engine: what computes the features; it starts over what another engine began. classes: the source's. spare:
        raise BadBundle where what another source's unfinished build has done would be lost. Raises Busy while another
        process builds, and where one has published since `compare`; DiskFull when the disk is too small
        for the rest; BadBundle when there is no image, the checkpoint is missing or the folder cannot be written.
        """
        if missing := {"weights", "recipe"} - set(inputs):
            raise BadBundle(f"the inputs' fingerprints lack {' and '.join(sorted(missing))}")
        if not checkpoint.is_file():
            raise BadBundle(f"{checkpoint}: no such checkpoint")
        if changes.fresh and not changes.new:
            raise BadBundle(f"{changes.source}: no image to index")
        leaving = Leaving({changes.source: changes.gone} if changes.gone else {})
        with writing(self.path), ExitStack() as undo:
            files.make_folder(self.path)
            lock = undo.enter_context(self._folder.lock())
            if (base := self._base(changes.base)) is not None:
                undo.callback(base.close)
                if spare:
                    WorkFolder(self._folder).refuse_to_lose(base.number, changes.source)
            number, first_id = self._folder.following(0 if base is None else base.manifest.next_id)
            plan = Plan(
                number=number,
                base=changes.base,
                fresh=changes.fresh,
                source=changes.source,
                first_id=first_id,
                inputs=dict(inputs),
                total=len(changes.new),
                kept=changes.kept,
                width=width,
                engine=engine,
                classes=tuple(classes),
                index=asdict(layout),
                leaving=leaving.fingerprint(),
            )
            building = undo.enter_context(Building(self._folder, plan, leaving, checkpoint, base, lock, identity))
            building.check_room()
            undo.pop_all()
            return building

    def remove(self, ids: Iterable[int], measure: Measure | None = None, lose: str | None = None) -> Generation:
        """Publish a generation without these images. Their names are remembered, and stay out until a file changes.

        lose: the source whose unfinished build may be lost; any other's is an error. Raises BadBundle for that, for an
        id that is not in the collection, and where no image would be left; Busy, DiskFull.
        """
        return self._without(Leaving(ids=sorted(set(ids))), measure, lose)

    def forget(self, gone: Mapping[str, Collection[str]], measure: Measure | None = None) -> Generation:
        """Publish a generation without these names, by source, and without the images that then have no name.

        Raises BadBundle for a name that is not in the collection, and where no image would be left; Busy, DiskFull.
        """
        return self._without(Leaving({source: tuple(names) for source, names in gone.items()}), measure)

    def generations(self) -> list[Published]:
        """Return the published generations in order. Raises BadBundle where CURRENT cannot be read."""
        current, found = self._folder.current(), list[Published]()
        for number in self._folder.numbers():
            try:
                manifest = Manifest.read(self._folder.path(number) / MANIFEST)
            except BadBundle as error:
                found.append(Published(number, number == current, problem=str(error)))
            else:
                found.append(Published(number, number == current, manifest.created, manifest.rows))
        return found

    def roll_back(self) -> Generation:
        """Make the generation before the current one current again; one that cannot be opened is passed over.

        Raises BadBundle if there is none, Busy.
        """
        with writing(self.path), self._folder.lock():
            current, problems = self._folder.current() or 0, list[BadBundle]()
            for number in reversed([number for number in self._folder.numbers() if number < current]):
                try:
                    generation = Generation(self._folder.path(number))
                except BadBundle as error:
                    problems.append(error)
                    continue
                self._folder.point(number)
                return generation
            raise problems[0] if problems else BadBundle(f"{self.path}: there is no generation before the current one")

    def prune(self) -> list[int]:
        """Remove all generations but the current one, and return their numbers.

        Raises BadBundle, also for files that cannot be deleted, Busy.
        """
        with writing(self.path), self._folder.lock(), closing(self.current()) as current:
            others = [number for number in self._folder.numbers() if number != current.number]
            self._folder.remove(others)
            if left := self._folder.leftovers():
                raise BadBundle(f"{left[0]}: not all of it can be deleted: is a file of it in use?")
        return others

    def _without(self, leaving: Leaving, measure: Measure | None, lose: str | None = None) -> Generation:
        with writing(self.path), ExitStack() as undo:
            lock = undo.enter_context(self._folder.lock())
            base = undo.enter_context(closing(self.current()))
            leaving.check(base.catalogue)
            WorkFolder(self._folder).refuse_to_lose(base.number, lose)
            number, first_id = self._folder.following(base.manifest.next_id)
            plan = Plan(
                number=number,
                base=base.number,
                fresh=False,
                source=None,
                first_id=first_id,
                inputs=base.manifest.inputs,
                total=0,
                kept=0,
                width=base.manifest.width,
                engine=base.manifest.engine,
                classes=(),
                index=base.manifest.index,
                leaving=leaving.fingerprint(),
            )
            with Building(self._folder, plan, leaving, base.checkpoint, base, lock, lambda *_: "") as building:
                return building.publish(measure)

    def _base(self, number: int | None) -> Generation | None:
        """Open the generation that was compared. Raises Busy where another one is current now, BadBundle."""
        current = self._folder.current()
        if number != current:
            raise Busy(f"{self.path}: generation {current} is current now, not {number}; run it again")
        try:
            return None if current is None else self.current()
        except OldFormat:
            return None
