"""The collection of a bundle, changed: images that were sent come in, an image goes.

Both are the index's own add and remove, so they end in a new generation. Every method blocks, and is for one thread.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import files
from index import BadBundle, Bundle, DiskFull, measure_again
from model import BadImage, Embeds, open_source
from service.engine import Engine
from service.growing import finished
from service.settings import Settings
from service.uploads import Upload, Uploads

__all__ = ["Added", "Collection"]


@dataclass(frozen=True)
class Added:
    """An image that is in the collection."""

    image_id: int
    name: str
    is_new: bool  # False: it was there already


class Collection:
    """Changes one bundle."""

    def __init__(self, settings: Settings) -> None:
        self._bundle, self._uploads = Bundle(settings.bundle), Uploads(settings.bundle)

    def add(self, sent: Sequence[Upload], engine: Engine, embedder: Embeds) -> list[Added | BadImage]:
        """Keep the originals that are new, embed and publish them. What comes back is in the order of `sent`.

        engine: of the bundle's current generation; embedder: its network. Raises BadBundle, Busy and DiskFull of the
        index; then nothing is kept, unless the generation was published before the error.
        """
        before = self._ids(sent)
        new = {upload.content: upload for upload in sent if upload.content not in before}
        if new:
            with self._writing():
                try:
                    self._uploads.add(list(new.values()))
                    self._index(engine, embedder)
                finally:
                    self._uploads.drop(new.keys() - self._ids(new.values()).keys())
        return self._found(sent, before)

    def remove(self, image_id: int) -> None:
        """Remove an image, and its original if that was sent. Raises NoSuchImage, and what `add` does."""
        with closing(self._bundle.current()) as generation:
            content = generation.catalogue.image(image_id).content
            if len(generation.ids) == 1:
                raise BadBundle("no image would be left; a collection has at least one")
        with self._writing():
            self._bundle.remove([image_id], measure_again, lose=str(self._uploads.list)).close()
            self._uploads.drop([content])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep other services away from the uploads, and name the errors of the file system.

        Before that, delete the originals of removed images which a killed service has left.
        """
        with files.translated(self._uploads.list, BadBundle, DiskFull), self._uploads.lock():
            with closing(self._bundle.current()) as generation:
                names = generation.catalogue.names(str(self._uploads.list))
                removed = {named.name for named in names if named.outcome == "excluded"}
            self._uploads.drop({content for content, _, name in self._uploads.rows() if name in removed})
            yield

    def _index(self, engine: Engine, embedder: Embeds) -> None:
        """Bring the bundle up to date with the list of uploads."""
        source = open_source(self._uploads.list, embedder.recipe.stored)
        with closing(self._bundle.current()) as generation:
            layout, made_by, checkpoint = generation.layout, generation.manifest.engine, generation.checkpoint
        if made_by != engine.network_engine:
            raise BadBundle(f"its features were computed by {made_by}: serve with --engine {made_by}")
        changes = self._bundle.compare(
            engine.manifest.inputs,
            engine=made_by,
            source=str(self._uploads.list),
            total=len(source),
            entries=lambda: (
                (name, source.classes[label] if label >= 0 else None, state) for name, label, state in source.entries()
            ),
        )
        if changes.fresh:
            raise BadBundle("another network has made its features meanwhile; try again in a moment")
        begun = self._bundle.begin(
            engine.manifest.inputs,
            checkpoint,
            changes=changes,
            identity=source.subset(changes.new).identity,
            width=embedder.width,
            engine=made_by,
            classes=source.classes,
            layout=layout,
            spare=True,
        )
        with begun as building:
            finished(building, embedder, source, changes.new, measure_again).close()

    def _ids(self, sent: Iterable[Upload]) -> dict[str, int]:
        """Return the image ids of those that are in the collection, by content."""
        with closing(self._bundle.current()) as generation:
            return generation.catalogue.ids_of({upload.content for upload in sent})

    def _found(self, sent: Sequence[Upload], before: Mapping[str, int]) -> list[Added | BadImage]:
        with closing(self._bundle.current()) as generation:
            ids = generation.catalogue.ids_of({upload.content for upload in sent})
            found, seen = list[Added | BadImage](), set(before)
            for upload in sent:
                if (image_id := ids.get(upload.content)) is None:
                    found.append(BadImage("the image cannot be decoded"))
                    continue
                name = generation.catalogue.image(image_id).name
                found.append(Added(image_id, name, upload.content not in seen))
                seen.add(upload.content)
            return found
