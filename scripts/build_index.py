"""The batch job: embed a collection and publish features, thumbnails and labels as a bundle's next generation.

Run again, it embeds what is new and drops what is gone; other flags add, remove, list, and go back.
"""

import time
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from index import Bundle, Generation
from index.layout import MapKind
from index.map import check_map
from index.planner import Wanted, bytes_of
from index.quality import measure_again
from model import Embedder, load_checkpoint
from model.allocator import keep_freed_memory
from model.data.class_names import people_names
from model.forward.engines import EngineName
from model.preprocess import EmbeddingPrecision
from model.progress import counting
from scripts.command import Refused, run
from scripts.indexing.growing import build, check_engine, check_is_there, compared, file_of, left_out
from scripts.indexing.held_out import hold_out, measuring
from scripts.indexing.inputs import collection, published_network
from scripts.indexing.laying import laid_out, memory_of_gpus
from scripts.indexing.shrinking import drop_missing
from scripts.indexing.telling import (
    check_report,
    generation_lines,
    ledger_lines,
    quality_lines,
    skipped_lines,
    source_lines,
    write_report,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Index a collection. Run again after a stop, it continues; when nothing has changed, it has nothing to do."""

    checkpoint: Path = Path("runs/cifar10/checkpoint.safetensors")  # the trained network
    weights: str | None = None
    """In place of CHECKPOINT, a published network: torchvision or bvlc, 244 MB each, which are downloaded, or a file of
    either. Its checkpoint is made beside the download."""
    weights_folder: Path = Path("data/weights")
    """Where downloads are kept; a published file that is there already is used without the network."""
    images: Path = Path("data/cifar10")
    """A packed dataset (its split train), any tree of folders with images, a list of them (.csv, .parquet), or tar
    shards (a .tar, or a folder of them)."""
    class_names: Path | None = None
    """Names of the class folders: a file with lines like Caffe's synset_words.txt, or "folder,name" (CSV). Without a
    name, a folder called by an id of ILSVRC-2012 (n01440764) has that class's first word (tench), another its own."""
    bundle: Path = Path("bundles/cifar10")  # where the generation is published
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N
    engine: EngineName = "auto"  # what runs the network: auto (OpenVINO on a CPU, torch on a GPU), openvino, torch
    precision: EmbeddingPrecision = "float32"  # of the network's arithmetic; the service follows it
    held_out: int = 200
    """Images that measure the index and are not in it: of the dataset's split validation, val or test where it has one,
    else of the images themselves, and then at most one in a hundred. 0: all are indexed, and nothing is measured."""
    index: Wanted = "auto"
    """How the rows are laid out for searching: auto (the quickest that fits in MEMORY), flat (nothing beside them),
    panorama (leading components propose and prove), coarse (the same, with fewer where memory is short), hnsw (a graph
    proposes)."""
    map: MapKind = "pca"
    """The images' positions in the plane, which the page draws: pca (the two directions in which features differ most),
    umap (neighbours stay together: clearer, 40 s for 50,000 images at each change; it needs fc7[umap]), none."""
    memory: str = "4GiB"  # that a search may keep in memory beside the rows, which are memory-mapped
    add: Path | None = None  # add these images to the bundle, embedded by its own network; as --images otherwise
    remove: tuple[int, ...] | None = None  # image ids to take out; a file that is not changed is not added again
    missing: bool = False  # take out every name whose file is gone, in all that was added
    report: Path | None = None  # CSV to write: source, name, outcome, image id and reason of every input
    list: bool = False  # print the generations, and what was added
    rollback: bool = False  # make the generation before the current one current again
    prune: bool = False  # delete all generations but the current one
    verify: bool = False  # read all of the current generation, and compare its SHA-256


ACTIONS = ("add", "remove", "missing", "list", "rollback", "prune", "verify")
NOT_WITH_ADD = ("images", "checkpoint", "weights", "precision", "map")


def given(config: Config) -> list[str]:
    """Return the flags that ask for something else than an index of --images."""
    return [f"--{action}" for action in ACTIONS if getattr(config, action) not in (None, False)]


def check(config: Config) -> None:
    """Raise Refused for flags that contradict each other, and for a report that cannot be written; BadSize, NoUmap."""
    if len(several := given(config)) > 1:
        raise Refused(f"{' and '.join(several)}: one at a time")
    if config.weights is not None and config.checkpoint != Config.checkpoint:
        raise Refused("give --checkpoint or --weights, not both")
    if config.add is not None:
        for name in NOT_WITH_ADD:
            if getattr(config, name) != getattr(Config, name):
                raise Refused(
                    f"--{name} with --add: what is added is named by --add, its network and map are the bundle's own"
                )
    bytes_of(config.memory)  # raises BadSize
    check_map(config.map)  # raises NoUmap
    if config.held_out < 0:
        raise Refused(f"--held-out {config.held_out}: a number of images, or 0")
    if config.remove == ():
        raise Refused("--remove takes the ids of the images, as 17 or 17 18 19")
    if config.report is not None:
        check_report(config.report)


def grow(config: Config, bundle: Bundle) -> tuple[Generation, str, list[str]]:
    """Bring the bundle up to date with --images or --add. Return the generation, what was done, and the source's key.

    Raises Refused where the bundle holds other images, or features of another engine than the added ones would have.
    """
    keep_freed_memory()
    begun, images = time.monotonic(), config.add or config.images
    checkpoint = network(config, bundle)
    saved = load_checkpoint(checkpoint)
    precision = config.precision if config.add is None else saved.recipe.precision
    trained = replace(saved, recipe=replace(saved.recipe, precision=precision))
    source, key = collection(images, config.class_names, trained.recipe.stored), str(images.resolve())
    held = hold_out(images, source, key, config.held_out, bundle, lambda names: people_names(names, config.class_names))
    choice = laid_out(
        bundle, held.indexed, key, trained.table.width, config.index, config.memory, memory_of_gpus(config.device)
    )
    layout = replace(choice.layout, map=config.map if config.add is None else map_of(bundle))
    changes = compared(bundle, trained, held.indexed, key, None, layout)
    if changes.empty:
        return bundle.current(), "holds this network's features of these images already: nothing to do", [key]
    if config.add is None:
        check_is_there(bundle, changes)
    embedder = Embedder(trained, config.device, config.engine)
    if config.add is not None:
        check_engine(bundle, embedder.engine)
    for other in left_out(bundle, key, embedder):
        print(f"{other}: its images are left out, because another network or engine made their features: --add them")
    if changes.fresh or changes.relayout:
        print(*choice.why, sep="\n")
    with file_of(trained, checkpoint, saved.recipe.precision) as file:
        measure = measuring(held, embedder)
        generation = build(embedder, held.indexed, key, bundle, file, counting("images"), layout, measure)
    return generation, f"published in {time.monotonic() - begun:.1f} s by {embedder.engine} on {embedder.device}", [key]


def map_of(bundle: Bundle) -> MapKind:
    """Return the kind of map that the current generation has. Raises BadBundle."""
    with closing(bundle.current()) as generation:
        return generation.layout.map


def network(config: Config, bundle: Bundle) -> Path:
    """Return the network's checkpoint; for --add it is the bundle's own. Raises BadBundle."""
    if config.add is not None:
        with closing(bundle.current()) as generation:
            return generation.checkpoint
    return config.checkpoint if config.weights is None else published_network(config.weights, config.weights_folder)


def changed(config: Config, bundle: Bundle) -> tuple[Generation, str, list[str]]:
    """Do what the flags ask for. Return the generation that is current then, what was done, and the sources of it."""
    if config.rollback:
        generation, did = bundle.roll_back(), "is current again"
    elif config.remove is not None:
        generation, did = bundle.remove(config.remove, measure_again), "published"
    elif config.missing:
        dropped = drop_missing(bundle)
        generation, did = dropped or bundle.current(), "published" if dropped else "misses no file: nothing to do"
    elif config.prune:
        deleted = bundle.prune()
        generation, did = bundle.current(), f"is kept, {len(deleted)} others are deleted"
    elif config.verify:
        generation, did = bundle.current(verify=True), "is as it was published, every file of it"
    elif config.list:
        for line in generation_lines(bundle.generations()):  # first: the current one may be damaged
            print(line)
        generation, did = bundle.current(), "is current"
        for line in source_lines(generation):
            print(line)
    else:
        return grow(config, bundle)
    return generation, did, generation.catalogue.sources()


def job(config: Config) -> None:
    """Do what the flags ask for, then print what the bundle holds; of what was read, also what was skipped."""
    check(config)
    generation, did, sources = changed(config, Bundle(config.bundle))
    manifest, skipped = generation.manifest, generation.catalogue.skipped()
    if config.add is not None or not given(config):
        for line in skipped_lines([image for image in skipped if image.source in sources]):
            print(line)
    print(f"{config.bundle}: generation {generation.number} {did}")
    if did.startswith("published"):
        for line in chain(ledger_lines(manifest.ledger), quality_lines(generation)):
            print(line)
    print(f"{manifest.rows:,} images indexed, {len(skipped):,} skipped, {manifest.width} numbers each")
    if config.report is not None:
        print(f"{config.report}: {write_report(config.report, generation, sources):,} rows")
    generation.close()


if __name__ == "__main__":
    run(Config, job)
