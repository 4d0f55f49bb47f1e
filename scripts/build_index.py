"""The batch job: embed a collection and publish features, thumbnails and labels as a bundle's next generation."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from index import Bundle, Changes, Generation
from model import Checkpoint, Embedder, Source, embed_collection, load_checkpoint, open_source
from model.allocator import keep_freed_memory
from model.checkpoint import save
from model.data.class_names import people_names
from model.data.encoded import EncodedSource
from model.data.folders import part
from model.data.listing import MOMENT, counted
from model.data.sources import Report
from model.forward.engines import EngineName
from model.preprocess import EmbeddingPrecision
from model.progress import counting
from scripts.command import Refused, run

SHOWN = 10  # lines about images that could not be read


@dataclass(frozen=True, kw_only=True)
class Config:
    """Index a collection. Run again after a stop, it continues; when nothing has changed, it has nothing to do."""

    checkpoint: Path = Path("runs/cifar10/checkpoint.safetensors")  # the trained network
    weights: str | None = None
    """In place of CHECKPOINT, a published network: torchvision or bvlc, 244 MB each, which are downloaded, or a file of
    either. Its checkpoint is made beside the download."""
    weights_folder: Path = Path("data/weights")
    """Where downloads are kept; a published file that is there already is used without the network."""
    images: Path = Path("data/cifar10")  # a packed dataset (its split train), or any tree of folders with images
    class_names: Path | None = None
    """Names of the class folders: a file with lines like Caffe's synset_words.txt, or "folder,name" (CSV). Without a
    name, a folder called by an id of ILSVRC-2012 (n01440764) has that class's first word (tench), another its own."""
    bundle: Path = Path("bundles/cifar10")  # where the generation is published
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N
    engine: EngineName = "auto"  # what runs the network: auto (OpenVINO on a CPU, torch on a GPU), openvino, torch
    precision: EmbeddingPrecision = "float32"  # of the network's arithmetic; the service follows it


@contextmanager
def watched(source: Source, report: Report) -> Iterator[Callable[[int, int], str]]:
    """source.identity, which reports how far it is when looking at the files takes longer than a moment."""
    begun, checked = time.monotonic(), 0

    def identity(start: int, stop: int) -> str:
        nonlocal checked
        if time.monotonic() - begun > MOMENT:
            report("check", checked := stop, 0)
        return source.identity(start, stop)

    try:
        yield identity
    finally:
        if checked:
            report("check", checked, checked)  # the end, wherever it is: where something has changed, say


def compared(bundle: Bundle, checkpoint: Checkpoint, source: Source, key: str, engine: str | None) -> Changes:
    """Compare the bundle with a source called `key`. Raises BadBundle."""

    def entries() -> Iterator[tuple[str, str | None, str]]:
        for name, label, state in source.entries():
            yield name, source.classes[label] if label >= 0 else None, state

    inputs = checkpoint.fingerprints()
    return bundle.compare(inputs, engine=engine, source=key, total=len(source), entries=entries)


def build(embedder: Embedder, source: Source, key: str, bundle: Bundle, file: Path, report: Report) -> Generation:
    """Embed block by block what is new in a source called `key`, and publish it with the checkpoint `file`.

    Raises BadBundle.
    """
    changes = compared(bundle, embedder.checkpoint, source, key, embedder.engine)
    work, total = source.subset(changes.new), len(changes.new)
    with watched(work, report) as identity:
        begun = bundle.begin(
            embedder.checkpoint.fingerprints(),
            file,
            changes=changes,
            identity=identity,
            width=embedder.width,
            engine=embedder.engine,
            classes=source.classes,
        )
    with begun as building:
        report("embed", building.done, total)
        with closing(embed_collection(embedder, work, building.done, building.known())) as blocks:
            for block in blocks:
                building.append(block)
                report("embed", building.done, total)
        return building.publish()


@contextmanager
def file_of(checkpoint: Checkpoint, given: Path, precision: EmbeddingPrecision) -> Iterator[Path]:
    """The file that the bundle copies: the given one, or a temporary one where that one has another precision."""
    if checkpoint.recipe.precision == precision:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / given.name, checkpoint)
        yield Path(folder) / given.name


def network(config: Config) -> Path:
    """Return the network's checkpoint; a published network is downloaded and converted where it has to be."""
    if config.weights is None:
        return config.checkpoint
    if config.checkpoint != Config.checkpoint:
        raise Refused("give --checkpoint or --weights, not both")
    from model.published.converted import checkpoint_file  # here, because it imports torch, which takes seconds

    return checkpoint_file(config.weights, config.weights_folder, counting("MB"))


def collection(config: Config, size: int) -> Source:
    """Open the images, and say what is ignored among them. A folder's classes get names for people."""
    source = open_source(config.images, size, report=counting("images"))
    if isinstance(source, EncodedSource):
        if part(config.images, "train") != config.images:
            print(f"{config.images}: its subfolder train alone, as a dataset's training images")
        if source.ignored:
            print(f"{config.images}: {counted(source.ignored)}")
        return replace(source, classes=people_names(source.classes, config.class_names, print))
    if config.class_names is not None:
        raise Refused(f"--class-names is for a folder of images: {config.images} was packed with its classes' names")
    return source


def job(config: Config) -> None:
    """Build the index unless the bundle holds it already, then print what it holds and what was skipped."""
    keep_freed_memory()
    begun = time.monotonic()
    checkpoint, bundle = network(config), Bundle(config.bundle)
    given = load_checkpoint(checkpoint)
    trained = replace(given, recipe=replace(given.recipe, precision=config.precision))
    source = collection(config, trained.recipe.stored)
    key = str(config.images.resolve())
    if compared(bundle, trained, source, key, None).empty:
        generation, did = bundle.current(), "holds this network's features of these images already: nothing to do"
    else:
        embedder = Embedder(trained, config.device, config.engine)
        with file_of(trained, checkpoint, given.recipe.precision) as file:
            generation = build(embedder, source, key, bundle, file, counting("images"))
        did = f"published in {time.monotonic() - begun:.1f} s by {embedder.engine} on {embedder.device}"
    skipped = generation.catalogue.skipped()
    for image in skipped[:SHOWN]:
        print(f"  skipped {image.name}: {image.reason}")
    if len(skipped) > SHOWN:
        print(f"  and {len(skipped) - SHOWN:,} more, in the table names of {generation.path / 'catalogue.sqlite'}")
    print(f"{config.bundle}: generation {generation.number} {did}")
    rows, width = generation.manifest.rows, generation.manifest.width
    print(f"{rows:,} images indexed, {len(skipped):,} skipped, {width} numbers each")


if __name__ == "__main__":
    run(Config, job)
