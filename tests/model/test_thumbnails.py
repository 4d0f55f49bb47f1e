"""Thumbnails show the whole original, whatever size the network reads."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.folders import folder_source
from model.data.packing import pack
from model.data.rows import packed_source
from model.preprocess import BadImage, stored_image
from model.thumbnails import stored_image_and_thumbnail, thumbnail, thumbnail_type
from tests.images import BROKEN, IMAGES, encoded, photograph, rotated


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("size", [8, 32, 256])
def test_the_stored_image_is_the_one_preprocessing(name: str, size: int) -> None:
    data = IMAGES[name]()
    stored, shown = stored_image_and_thumbnail(data, size)
    np.testing.assert_array_equal(stored, stored_image(data, size))
    assert max(opened(shown).size) <= 160


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_image_is_refused(name: str) -> None:
    with pytest.raises(BadImage):
        stored_image_and_thumbnail(BROKEN[name](), 32)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [8, 32, 224])
@pytest.mark.parametrize(
    ("original", "expected"),
    [((480, 640), (160, 120)), ((640, 480), (120, 160)), ((150, 100), (100, 150)), ((3000, 100), (5, 160))],
)
def test_a_thumbnail_keeps_the_aspect_ratio_and_comes_from_enough_pixels(
    kind: str, size: int, original: tuple[int, int], expected: tuple[int, int]
) -> None:
    bars = np.arange(original[0]) * 40 // original[0] % 2  # what an image that had been smaller in between would blur
    lines = photograph(*original) * bars[:, None, None].astype(np.uint8)
    _, data = stored_image_and_thumbnail(encoded(lines, kind, **({"quality": 95} if kind == "JPEG" else {})), size)
    shown = opened(data).convert("RGB")
    assert shown.size == expected
    wanted = Image.fromarray(lines).resize(expected, Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(shown, float) - np.asarray(wanted, float)).mean() < 14  # 45 for grey


def test_a_thumbnail_is_upright_and_over_white() -> None:
    pixels = photograph(300, 400)
    _, data = stored_image_and_thumbnail(rotated(pixels, 6, "JPEG"), 32)
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_270).resize((120, 160))
    assert np.abs(np.asarray(opened(data), float) - np.asarray(turned, float)).mean() < 4
    _, data = stored_image_and_thumbnail(IMAGES["PNG with alpha"](), 8)
    assert np.asarray(opened(data))[:, :30].min() == 255


@pytest.mark.parametrize("length", [10, 70_000])  # more than a JPEG's comment can have, too
def test_a_thumbnail_is_made_without_the_originals_comment(length: int) -> None:
    data = encoded(photograph(300, 400), "GIF", comment=b"c" * length)
    assert opened(data).info["comment"] == b"c" * length
    assert "comment" not in opened(stored_image_and_thumbnail(data, 32)[1]).info


def test_small_thumbnails_are_lossless_and_large_ones_small() -> None:
    small = photograph(48, 64)
    for data in (thumbnail(small), stored_image_and_thumbnail(encoded(small), 8)[1]):
        assert thumbnail_type(data) == "image/png"
        np.testing.assert_array_equal(np.asarray(opened(data)), small)
    assert 32 * 32 * 3 < len(thumbnail(np.zeros((32, 32, 3), np.uint8))) < 32 * 32 * 3 + 200  # not compressed
    data = thumbnail(photograph(256, 256))
    assert thumbnail_type(data) == "image/jpeg"
    for stored, shown in ((100, 100), (160, 160), (161, 81), (256, 128), (320, 160), (500, 125)):
        assert opened(thumbnail(photograph(stored, stored))).size == (shown, shown)
    wanted = photograph(256, 256).reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(opened(data), float) - wanted).mean() < 4


def test_a_folder_has_thumbnails_of_its_originals_and_a_packed_dataset_of_what_it_stores(tmp_path: Path) -> None:
    (tmp_path / "images" / "c").mkdir(parents=True)
    (tmp_path / "images" / "c" / "1.png").write_bytes(encoded(photograph(300, 400)))
    folder = folder_source(tmp_path / "images", 16)
    packed = packed_source(pack(tmp_path / "packed", {"train": folder}))
    for source, size in ((folder, (160, 120)), (packed, (16, 16))):
        [item] = source.read(0, 1, known=())
        assert item.thumbnail is not None
        assert opened(item.thumbnail).size == size
        assert source.read(0, 1)[0].thumbnail is None
