"""What a build makes, the file that records it, and the check that a block fits it."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

import files
from index.catalogue import Catalogue
from index.manifest import BadBundle
from index.work import Block

__all__ = ["Leaving", "Plan"]

SHOWN = 5  # ids in a message


@dataclass(frozen=True)
class Leaving:
    """What a build takes out of the collection."""

    names: Mapping[str, Collection[str]] = field(default_factory=dict)  # by source: files that are no longer there
    ids: Collection[int] = ()  # images whose names are to stay out, too

    def fingerprint(self) -> str:
        """Return a SHA-256 of it."""
        names = sorted((source, sorted(names)) for source, names in self.names.items() if names)
        return hashlib.sha256(json.dumps([names, sorted(self.ids)]).encode()).hexdigest()

    def check(self, catalogue: Catalogue) -> None:
        """Raise BadBundle where the catalogue lacks one of the images or names."""
        strange = sorted(set(self.ids).difference(catalogue.ids()))
        if strange:
            more = f" and {len(strange) - SHOWN:,} more" * (len(strange) > SHOWN)
            raise BadBundle(
                f"no image {', '.join(map(str, strange[:SHOWN]))}{more} in this collection; nothing is removed"
            )
        for source, names in self.names.items():
            if lost := set(names) - {named.name for named in catalogue.names(source)}:
                raise BadBundle(f"{source}: the collection has no image called {min(lost)}; nothing is removed")


@dataclass(frozen=True)
class Plan:
    """What a build makes. Equal plans and equal images give equal generations."""

    number: int  # of the generation
    base: int | None  # the generation that it starts from
    fresh: bool  # of that, it takes only which names stay out
    source: str | None  # whose images are added; None for none
    first_id: int  # the image id of position 0 of the work list
    inputs: Mapping[str, str]  # fingerprints, `weights` and `recipe` among them
    total: int  # images in the work list, including those that will be skipped
    kept: int  # images of the source that are as they were
    width: int  # d
    engine: str  # that computes the features: another rounds them in another way
    classes: tuple[str, ...]  # of the source; a label is a position in them
    index: Mapping[str, Any]  # the fields of a Layout
    leaving: str  # Leaving.fingerprint

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the plan in a file, or None when there is no file or no plan in it."""
        try:
            fields = json.loads(path.read_text())
            return cls(**{**fields, "classes": tuple(fields["classes"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, path: Path) -> None:
        """Write the plan to a file. Raises OSError; the old file stays."""
        files.replace(path, json.dumps(asdict(self)).encode())

    def numbered_as(self, other: Self) -> Self:
        """Return this plan with the other's number and image ids."""
        return replace(self, number=other.number, first_id=other.first_id)

    def continues(self, other: Self) -> bool:
        """Return True when blocks made for the other plan fit this one: what the end alone needs may differ."""
        end = {"total": other.total, "kept": other.kept, "index": other.index, "leaving": other.leaving}
        return replace(self.numbered_as(other), **end) == other  # type: ignore[arg-type]

    def check(self, block: Block, done: int) -> None:
        """Raise BadBundle unless the block starts after the `done` images and accounts for each of its own images."""
        n = len(block.ids)
        place = f"images {block.start} to {block.stop}"
        if block.start != done or not block.start < block.stop <= self.total:
            raise BadBundle(f"{place} do not follow the {done} of {self.total} that are done")
        if [entry.image_id for entry in block.entries] != list(range(block.start, block.stop)):
            raise BadBundle(f"{place}: each must have an entry, in ascending order")
        whole = {entry.image_id for entry in block.entries if entry.skipped is None and entry.content}
        if not whole.issuperset(block.ids.tolist()) or np.any(np.diff(block.ids) <= 0):
            raise BadBundle(f"{place}: only what could be read is embedded, in ascending order")
        if block.features.shape != (n, self.width) or block.features.dtype != np.float32:
            found = f"{block.features.shape} {block.features.dtype}"
            raise BadBundle(f"{place}: features should be {(n, self.width)} float32, not {found}")
        if len(block.thumbnails) != n:
            raise BadBundle(f"{place}: {n} images need as many thumbnails, not {len(block.thumbnails)}")
        if not np.isfinite(block.features).all():
            raise BadBundle(f"{place}: features that are not finite; the network is broken")
