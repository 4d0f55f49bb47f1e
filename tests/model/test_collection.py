"""A collection goes through the network block by block: reading, the network and the caller each in a thread."""

import hashlib
import signal
import threading
import time
from collections.abc import Container, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from model.checkpoint import BadCheckpoint
from model.collection import embed_collection
from model.data.sources import Item
from model.embed import Embedder
from tests.model.test_checkpoint import CLASSES, made
from tests.model.test_embed import random_images
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(60)


class Collection:
    """A source of `count` images of which some cannot be read."""

    classes, size = CLASSES, 18

    def __init__(self, count: int, broken: tuple[int, ...] = ()) -> None:
        self.images, self.broken = random_images(count), broken

    def __len__(self) -> int:
        return len(self.images)

    def identity(self, start: int, stop: int) -> str:
        return f"images {start} to {stop}"

    def entries(self) -> Iterator[tuple[str, int, str]]:
        return ((f"{i}.png", i % 3, f"state {i}") for i in range(len(self)))

    def subset(self, positions: Sequence[int]) -> "Collection":
        assert list(positions) == list(range(len(self)))
        return self

    def read(self, start: int, stop: int, known: Container[str] | None = None) -> list[Item]:
        return [self._item(i, known or ()) for i in range(start, min(stop, len(self)))]

    def _item(self, i: int, known: Container[str]) -> Item:
        if i in self.broken:
            return Item(i, f"{i}.png", i % 3, None, "broken", f"state {i}")
        content = hashlib.sha256(self.images[i].data).hexdigest()
        image = None if content in known else self.images[i]
        return Item(i, f"{i}.png", i % 3, image, None, f"state {i}", content, b"thumbnail %d" % i)


class Watched(Collection):
    """Notes what is read; from image `stuck` on, reading waits for `go_on`, and from image `lost` on it fails."""

    def __init__(self, count: int, stuck: int | None = None, lost: int | None = None) -> None:
        super().__init__(count)
        self.begun: list[int] = []
        self.go_on, self.stuck, self.lost = threading.Event(), stuck, lost

    def read(self, start: int, stop: int, known: Container[str] | None = None) -> list[Item]:
        self.begun.append(start)
        if self.stuck is not None and start >= self.stuck:
            assert self.go_on.wait(30)
        if self.lost is not None and start >= self.lost:
            raise OSError("the disk went away")
        return super().read(start, stop, known)


class Failing(Embedder):
    """Its second block is one too many."""

    calls = 0

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("out of memory") from OSError("the driver's reason")
        return super().__call__(images)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(made(), "cpu")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("block", [1, 4, 100])
def test_blocks_cover_the_collection_in_order_and_list_what_is_broken(embedder: Embedder, block: int) -> None:
    source = Collection(10, broken=(2, 8))
    blocks = list(embed_collection(embedder, source, block=block))
    assert np.concatenate([b.ids for b in blocks]).tolist() == [0, 1, 3, 4, 5, 6, 7, 9]
    skipped = [(e.image_id, e.name, e.skipped) for b in blocks for e in b.entries if e.skipped]
    assert skipped == [(2, "2.png", "broken"), (8, "8.png", "broken")]
    assert [(b.start, b.stop) for b in blocks] == [(i, min(i + block, 10)) for i in range(0, 10, block)]
    good = source.images[[0, 1, 3, 4, 5, 6, 7, 9]]
    np.testing.assert_allclose(np.concatenate([b.features for b in blocks]), embedder(good)[1], rtol=1e-5, atol=1e-6)
    assert [t for b in blocks for t in b.thumbnails] == [b"thumbnail %d" % i for i in (0, 1, 3, 4, 5, 6, 7, 9)]
    assert all(len(b.thumbnails) == len(b.ids) for b in blocks)


@pytest.mark.parametrize("block", [2, 5, 100])
def test_equal_content_is_embedded_once_and_each_image_has_its_entry(embedder: Embedder, block: int) -> None:
    source = Collection(10, broken=(2,))
    for copy, of in ((3, 1), (7, 1), (8, 0), (6, 5)):
        source.images[copy] = source.images[of]
    blocks = list(embed_collection(embedder, source, block=block))
    assert np.concatenate([b.ids for b in blocks]).tolist() == [0, 1, 4, 5, 9]
    entries = [entry for b in blocks for entry in b.entries]
    items = source.read(0, 10, known=())
    wanted = [(i.image_id, i.name, i.label, i.state, i.content, i.skipped) for i in items]
    assert [tuple(entry) for entry in entries] == wanted
    assert entries[3].content == entries[1].content
    assert [len(b.entries) for b in blocks] == [b.stop - b.start for b in blocks]
    assert all(len(b.ids) == len(b.features) == len(b.thumbnails) for b in blocks)
    np.testing.assert_allclose(
        np.concatenate([b.features for b in blocks]), embedder(source.images[[0, 1, 4, 5, 9]])[1], rtol=1e-5, atol=1e-6
    )


def test_a_known_content_is_not_embedded_and_going_on_knows_what_came_before(embedder: Embedder) -> None:
    source = Collection(12)
    source.images[9] = source.images[2]
    contents = [item.content for item in source.read(0, 12, known=()) if item.content is not None]
    known = {contents[0], contents[7]}
    whole = list(embed_collection(embedder, source, known=known, block=4))
    assert [b.ids.tolist() for b in whole] == [[1, 2, 3], [4, 5, 6], [8, 10, 11]]
    assert known == {contents[0], contents[7]}
    rest = list(embed_collection(embedder, source, 4, {*known, *contents[1:4]}, block=4))
    for one, other in zip(whole[1:], rest, strict=True):
        assert (one.entries, one.ids.tolist(), one.thumbnails) == (other.entries, other.ids.tolist(), other.thumbnails)
        assert one.features.tobytes() == other.features.tobytes()


def test_an_image_that_changes_while_it_is_read_is_found_changed_later(embedder: Embedder) -> None:
    class Changing(Collection):
        times = 0

        def identity(self, start: int, stop: int) -> str:
            return f"{super().identity(start, stop)} {self.times}"

        def read(self, start: int, stop: int, known: Container[str] | None = None) -> list[Item]:
            self.times += 1
            return super().read(start, stop, known)

    source = Changing(3)
    [block] = embed_collection(embedder, source)
    assert block.identity == "images 0 to 3 0"
    assert source.identity(0, 3) != block.identity


def test_going_on_gives_the_same_bytes(embedder: Embedder) -> None:
    source = Collection(10)
    whole, rest = (
        list(embed_collection(embedder, source, block=4)),
        list(embed_collection(embedder, source, start=4, block=4)),
    )
    assert [b.features.tobytes() for b in whole[1:]] == [b.features.tobytes() for b in rest]
    assert list(embed_collection(embedder, source, start=10)) == []


def test_images_of_another_size_are_refused(embedder: Embedder) -> None:
    source = Collection(3)
    source.size = 32
    with pytest.raises(BadCheckpoint, match="images of 18 pixels, not of 32"):
        next(embed_collection(embedder, source))


def test_blocks_are_those_of_a_plain_loop(embedder: Embedder) -> None:
    source = Collection(50, broken=(0, 1, 2, 3, 17, 49))  # nothing is left of the first block
    blocks = embed_collection(embedder, source, block=4)
    for start in range(0, 50, 4):
        items, block = source.read(start, min(start + 4, 50)), next(blocks)
        good = [item for item in items if item.image is not None]
        assert block.ids.tolist() == [item.image_id for item in good]
        assert [entry.name for entry in block.entries] == [item.name for item in items]
        assert [entry.label for entry in block.entries] == [item.label for item in items]
        assert block.thumbnails == tuple(item.thumbnail for item in good)
        assert [entry.skipped for entry in block.entries] == [item.skipped for item in items]
        images = np.array([item.image for item in good], np.uint8).reshape(-1, 18, 18, 3)
        with_others = Embedder(made(), "cpu")  # the embedder is at work on the next block
        assert block.features.tobytes() == with_others(images)[1].tobytes()
    assert list(blocks) == []


@pytest.mark.parametrize(
    ("batch", "stops"), [(256, [512, 600]), (128, [256, 512, 600]), (16, [128, 256, 384, 512, 600])]
)
def test_a_block_is_two_passes_of_the_network_and_is_not_tiny(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch, batch: int, stops: list[int]
) -> None:
    monkeypatch.setattr(Embedder, "batch", batch)
    assert [block.stop for block in embed_collection(embedder, Collection(600))] == stops


def test_each_stage_is_one_block_ahead_and_no_more(embedder: Embedder) -> None:
    source = Watched(40)
    blocks = embed_collection(embedder, source, block=4)
    for taken in range(1, 5):
        next(blocks)
        wait_until(lambda taken=taken: len(source.begun) >= taken + 2)  # type: ignore[misc]
        time.sleep(0.02)
        assert source.begun == list(range(0, 4 * (taken + 2), 4))
    blocks.close()


def test_blocks_are_given_out_while_reading_hangs(embedder: Embedder) -> None:
    source = Watched(20, stuck=8)
    blocks = embed_collection(embedder, source, block=4)
    assert [next(blocks).stop for _ in range(2)] == [4, 8]
    source.go_on.set()
    assert [block.stop for block in blocks] == [12, 16, 20]


def test_an_error_while_reading_is_raised_after_the_blocks_before_it(embedder: Embedder) -> None:
    blocks = embed_collection(embedder, Watched(20, lost=8), block=4)
    assert [next(blocks).stop for _ in range(2)] == [4, 8]
    with pytest.raises(OSError, match="the disk went away"):
        next(blocks)


def test_an_error_in_the_network_is_raised_with_its_cause() -> None:
    blocks = embed_collection(Failing(made(), "cpu"), Collection(20), block=4)
    assert next(blocks).stop == 4
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        next(blocks)
    assert str(caught.value.__cause__) == "the driver's reason"


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_caller_that_stops_ends_the_threads(embedder: Embedder, taken: int) -> None:
    source = Watched(1000)
    blocks = embed_collection(embedder, source, block=4)
    for _ in range(taken):
        next(blocks)
    blocks.close()
    assert len(source.begun) <= taken + 2
    assert list(blocks) == []


def test_ctrl_c_ends_the_threads(embedder: Embedder) -> None:
    source = Watched(1000, stuck=8)
    blocks = embed_collection(embedder, source, block=4)
    assert [next(blocks).stop for _ in range(2)] == [4, 8]

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)
        source.go_on.set()

    threading.Timer(0.05, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        next(blocks)
    assert source.begun in ([0, 4, 8], [0, 4, 8, 12])  # the network takes up the third block, and is waited for
