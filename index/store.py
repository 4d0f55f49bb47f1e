"""Bundles: folders in which the features of a collection are built, published, found and rolled back."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from index.building import Building
from index.bundle_folder import BundleFolder, writing
from index.catalogue import Identity
from index.generation import BadBundle, Generation
from index.plan import Plan

__all__ = ["Bundle"]


class Bundle:
    """The folder bundles/<name>/, which keeps the three newest generations. One of them is current."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._folder = BundleFolder(self.path)

    def current(self, *, verify: bool = False) -> Generation:
        """Open the current generation. With `verify`, read all of it and compare its SHA-256. Raises BadBundle."""
        number = self._folder.current()
        if number is None:
            raise BadBundle(f"{self.path}: no index here; scripts/build_index.py builds one")
        return Generation(self._folder.path(number), verify=verify)

    def holds(self, inputs: Mapping[str, str], total: int, identity: Identity) -> bool:
        """Return True when `begin` with these arguments would build the current generation again.

        All its images are asked for by `identity`. False, too, where its files do not have their sizes.
        """
        try:
            generation = self.current()
        except BadBundle:
            return False
        with closing(generation):
            known = inputs.items() <= generation.manifest.inputs.items()
            return known and generation.catalogue.is_of(total, identity)

    def begin(
        self,
        inputs: Mapping[str, str],
        checkpoint: Path,
        *,
        total: int,
        identity: Identity,
        width: int,
        engine: str,
        classes: Sequence[str],
    ) -> Building:
        """Start a generation, or continue the one that was begun: after its unchanged blocks, see Building.done.

        inputs: fingerprints of what the features depend on beside the images, `weights` and `recipe` among them.
        checkpoint: the file that is copied into the generation. total: images in the collection. identity: what images
        start <= id < stop are now; asked for blocks that are done. width: d. engine: what computes the features; it
        starts over what another engine began. Raises Busy while another process builds, DiskFull when the disk is too
        small for the rest, BadBundle when the checkpoint is missing or the folder cannot be written.
        """
        if missing := {"weights", "recipe"} - set(inputs):
            raise BadBundle(f"the inputs' fingerprints lack {' and '.join(sorted(missing))}")
        if not checkpoint.is_file():
            raise BadBundle(f"{checkpoint}: no such checkpoint")
        with writing(self.path), ExitStack() as undo:
            lock = undo.enter_context(self._folder.lock())
            self._folder.current()  # a CURRENT that cannot be read is told before the work, not after it
            number = max(self._folder.numbers(), default=0) + 1
            plan = Plan(number, dict(inputs), total, width, engine, tuple(classes))
            building = undo.enter_context(Building(self._folder, plan, checkpoint, lock, identity))
            building.check_room()
            undo.pop_all()
            return building

    def roll_back(self) -> Generation:
        """Make the generation before the current one current again. Raises BadBundle if there is none, Busy."""
        with writing(self.path), self._folder.lock():
            current = self._folder.current() or 0
            earlier = [number for number in self._folder.numbers() if number < current]
            if not earlier:
                raise BadBundle(f"{self.path}: there is no generation before the current one")
            generation = Generation(self._folder.path(earlier[-1]))
            self._folder.point(earlier[-1])
        return generation
