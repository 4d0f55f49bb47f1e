"""A build of the index taken to its end: what is new is embedded, canaries are kept, the generation is published.

scripts/build_index.py and the service's own changes both end here.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from index import Building, Generation, keep_canaries
from model import Embeds, Source, embed_collection, originals

__all__ = ["finished"]

Measure = Callable[[Generation], Mapping[str, Any]]
Report = Callable[[str, int, int], None]  # of what, how much is done, how much in all


def finished(
    building: Building,
    embedder: Embeds,
    source: Source,
    new: Sequence[int],
    measure: Measure | None,
    report: Report = lambda *_: None,
) -> Generation:
    """Embed what is left of a build, and publish it.

    new: the positions in `source` that are the build's work list. measure: what the manifest is to say of its quality.
    Raises BadBundle, DiskFull.
    """

    def finish(generation: Generation) -> Mapping[str, Any]:
        key = building.plan.source
        if key is not None:
            keep_canaries(generation, key, originals(source))
        return measure(generation) if measure else {}

    work, total = source.subset(new), len(new)
    report("embed", building.done, total)
    with closing(embed_collection(embedder, work, building.done, building.known())) as blocks:
        for block in blocks:
            building.append(block)
            report("embed", building.done, total)
    return building.publish(finish)
