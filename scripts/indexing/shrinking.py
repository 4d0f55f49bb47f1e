"""Take out of a bundle what is no longer there, without the network."""

from pathlib import Path

from index import Bundle, Generation
from index.quality import measure_again
from model import load_checkpoint, open_source
from model.data.encoded import MISSING
from model.data.packed import BadDataset
from scripts.command import Refused
from scripts.indexing.growing import check_readable

__all__ = ["drop_missing", "missing"]


def drop_missing(bundle: Bundle) -> Generation | None:
    """Publish a generation without the names whose files are gone; None where all are there.

    Raises BadBundle; Refused as `missing` does.
    """
    generation = bundle.current()
    try:
        gone = {source: missing(generation, source) for source in generation.catalogue.sources()}
    finally:
        generation.close()
    lost = {source: names for source, names in gone.items() if names}
    return bundle.forget(lost, measure_again) if lost else None


def missing(generation: Generation, source: str) -> list[str]:
    """Return the names of a source that are no longer there: all of them where its folder is not.

    Raises Refused for a source that cannot be opened, and for a folder in it that cannot be looked into.
    """
    known = [named.name for named in generation.catalogue.names(source)]
    if not known:  # the last run took them away
        return []
    if not Path(source).exists():
        print(f"{source}: not there any more; its {len(known):,} names go (--rollback brings them back)")
        return known
    try:
        opened = open_source(source, load_checkpoint(generation.checkpoint).recipe.stored)
    except BadDataset as error:
        raise Refused(f"{error}; none of its {len(known):,} names is dropped: they go when {source} is gone") from error
    there = {name for name, _, state in opened.entries() if state != MISSING}
    gone = [name for name in known if name not in there]
    check_readable(opened, gone)
    return gone
