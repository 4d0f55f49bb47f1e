"""The batch job: embed a collection and publish features, thumbnails and labels as a bundle's next generation."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from index import Bundle, Generation
from model import Embedder, Source, embed_collection, load_checkpoint, open_source
from model.allocator import keep_freed_memory
from model.data.listing import counted
from model.data.sources import EncodedSource
from model.progress import counting
from scripts.command import run

SHOWN = 10  # lines about images that could not be read


@dataclass(frozen=True, kw_only=True)
class Config:
    """Index a collection. Run again after a stop, it continues; when nothing has changed, it has nothing to do."""

    checkpoint: Path = Path("runs/cifar10/checkpoint.safetensors")  # the trained network
    images: Path = Path("data/cifar10")  # a packed dataset (its split train), or any tree of folders with images
    bundle: Path = Path("bundles/cifar10")  # where the generation is published
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N


def build(
    embedder: Embedder, source: Source, bundle: Bundle, file: Path, report: Callable[[str, int, int], None]
) -> Generation:
    """Embed the rest of the collection block by block, and publish it with the checkpoint `file`. Raises BadBundle."""
    inputs, total = embedder.checkpoint.fingerprints(), len(source)
    with bundle.begin(
        inputs, file, total=total, identity=source.identity, width=embedder.width, classes=source.classes
    ) as building:
        report("embed", building.done, total)
        with closing(embed_collection(embedder, source, building.done)) as blocks:
            for block in blocks:
                building.append(block)
                report("embed", building.done, total)
        return building.publish()


def job(config: Config) -> None:
    """Build the index unless the bundle holds it already, then print what it holds and what was skipped."""
    keep_freed_memory()
    begun = time.monotonic()
    trained, bundle = load_checkpoint(config.checkpoint), Bundle(config.bundle)
    source = open_source(config.images, trained.recipe.stored, report=counting("images"))
    if isinstance(source, EncodedSource) and source.ignored:
        print(f"{config.images}: {counted(source.ignored)}")
    if bundle.holds(trained.fingerprints(), len(source), source.identity):
        generation, did = bundle.current(), "holds this network's features of these images already: nothing to do"
    else:
        generation = build(Embedder(trained, config.device), source, bundle, config.checkpoint, counting("images"))
        did = f"published in {time.monotonic() - begun:.1f} s"
    skipped = generation.catalogue.skipped()
    for image in skipped[:SHOWN]:
        print(f"  skipped {image.name}: {image.reason}")
    if len(skipped) > SHOWN:
        print(f"  and {len(skipped) - SHOWN:,} more, in the table skipped of {generation.path / 'catalogue.sqlite'}")
    print(f"{config.bundle}: generation {generation.number} {did}")
    rows, width = generation.features.shape
    print(f"{rows:,} images indexed, {len(skipped):,} skipped, {width} numbers each")


if __name__ == "__main__":
    run(Config, job)
