"""What has changed in a source since the current generation: which inputs to read, and which names are gone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from index.generation import Generation
from index.manifest import BadBundle

__all__ = ["Changes", "Entries", "changes_of"]

Entries = Callable[[], Iterable[tuple[str, str | None, str]]]  # name, class name and state of each input, in order


@dataclass(frozen=True)
class Changes:
    """How a source differs from what a generation holds of it."""

    source: str  # its key
    new: Sequence[int]  # positions, ascending: names that are new, or whose state or label has changed
    gone: tuple[str, ...] = ()  # names that the source no longer has
    kept: int = 0  # inputs that are as they were
    base: int | None = None  # the generation that was compared; None where there is none
    fresh: bool = True  # nothing of `base` is kept but which names were removed by id: another network made it
    relayout: bool = False  # the rows should be laid out, or drawn, in another way

    @property
    def empty(self) -> bool:
        """True when there is nothing to do."""
        return not (self.new or self.gone or self.fresh or self.relayout)


def changes_of(generation: Generation, source: str, total: int, entries: Entries, *, fresh: bool) -> Changes:
    """Compare a source of `total` inputs with a generation, or, where `fresh`, with what was removed from it by id.

    `entries` is called where it has to be. Raises BadBundle where two inputs have one name.
    """
    catalogue = generation.catalogue
    if fresh and not catalogue.excludes(source):
        return Changes(source, range(total), base=generation.number)
    known = {
        named.name: (named.label, named.state)
        for named in catalogue.names(source)
        if not fresh or named.outcome == "excluded"
    }
    new, kept, seen = [], 0, set[str]()
    for position, (name, label, state) in enumerate(entries()):
        if name in seen:
            raise BadBundle(f"{source}: two of its images are called {name}")
        seen.add(name)
        if known.get(name) == (label, state):
            kept += 1
        else:
            new.append(position)
    gone = tuple(name for name in known if name not in seen)
    return Changes(source, new, gone, kept, generation.number, fresh)
