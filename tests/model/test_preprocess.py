"""Any image's bytes become the same stored image and the same network input, or one clear refusal."""

import contextlib
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.preprocess import (
    BadImage,
    Recipe,
    TooManyPixels,
    network_input,
    stored_image,
    ten_views,
)
from tests.images import BROKEN, IMAGES, encoded, photograph, png_header, rotated

ROOT = Path(__file__).parents[2]
SIDES = st.integers(1, 300)


@pytest.mark.parametrize("name", IMAGES)
def test_every_kind_of_image_becomes_a_stored_image(name: str) -> None:
    image = stored_image(IMAGES[name](), 32)
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_image_is_refused_without_a_path_or_an_address(name: str) -> None:
    with pytest.raises(BadImage) as refusal:
        stored_image(BROKEN[name](), 32)
    assert len(str(refusal.value)) > 20
    assert "0x" not in str(refusal.value)  # an object's address
    assert "/" not in str(refusal.value)  # a path
    if "bomb" in name:
        assert isinstance(refusal.value, TooManyPixels)


@pytest.mark.parametrize(
    "name", ["plain JPEG", "progressive JPEG", "CMYK JPEG", "TIFF", "BMP", "PNG with alpha", "EXIF-rotated PNG"]
)
def test_the_container_does_not_change_the_image(name: str) -> None:
    plain = stored_image(IMAGES["plain PNG"](), 32).astype(int)
    image = stored_image(IMAGES[name](), 32).astype(int)
    if name == "EXIF-rotated PNG":
        image = np.rot90(image)  # orientation 6 says: turn clockwise to show
    right = slice(20, None)  # clear of the transparent half
    assert np.abs(image - plain)[:, right].mean() < 4


def test_grey_alpha_palette_and_frames_are_read_as_they_are_shown() -> None:
    grey = stored_image(IMAGES["grey PNG"](), 32)
    assert (grey[..., 0] == grey[..., 1]).all()
    for name in ("PNG with alpha", "palette PNG with alpha", "grey PNG with alpha"):
        assert (stored_image(IMAGES[name](), 32)[:, :10] == 255).all(), name
    assert (stored_image(IMAGES["palette PNG with alpha"](), 32)[:, 22:] == (200, 100, 50)).all()
    for name in ("animated GIF", "animated WebP"):
        assert (stored_image(IMAGES[name](), 32) == (255, 0, 0)).all(), name


def test_sixteen_bits_are_read_by_their_high_byte() -> None:
    samples = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(stored_image(encoded(samples), 256)[..., 1], (samples >> 8).astype(np.uint8))
    clear = stored_image(encoded(samples, transparency=0x1234), 256)
    assert clear[0x12, 0x34].tolist() == [255, 255, 255]
    assert clear[0x12, 0x35].tolist() == [0x12, 0x12, 0x12]


@given(width=SIDES, height=SIDES, size=st.integers(1, 64), kind=st.sampled_from(["PNG", "JPEG", "WEBP"]))
@settings(max_examples=60, deadline=None)
def test_any_size_gives_a_square_of_the_one_asked_for(width: int, height: int, size: int, kind: str) -> None:
    assert stored_image(encoded(photograph(height, width), kind), size).shape == (size, size, 3)


@given(width=SIDES, height=SIDES, orientation=st.integers(1, 8), kind=st.sampled_from(["PNG", "TIFF"]))
@settings(max_examples=60, deadline=None)
def test_an_orientation_tag_equals_the_turned_image(width: int, height: int, orientation: int, kind: str) -> None:
    pixels = photograph(height, width)
    shown = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels),
    }[orientation]
    np.testing.assert_array_equal(
        stored_image(rotated(pixels, orientation, kind), 24), stored_image(encoded(np.ascontiguousarray(shown)), 24)
    )


@given(width=SIDES, height=SIDES)
@settings(max_examples=40, deadline=None)
def test_a_mirrored_image_gives_the_mirrored_image(width: int, height: int) -> None:
    pixels = photograph(height, width)
    image, mirrored = (stored_image(encoded(np.ascontiguousarray(p)), 24) for p in (pixels, pixels[:, ::-1]))
    assert np.abs(image[:, ::-1].astype(int) - mirrored).max() <= 1  # the filter's weights are rounded


@given(width=SIDES, height=SIDES, colour=st.tuples(*[st.integers(0, 255)] * 3))
@settings(max_examples=30, deadline=None)
def test_one_colour_stays_that_colour(width: int, height: int, colour: tuple[int, int, int]) -> None:
    assert (stored_image(encoded(Image.new("RGB", (width, height), colour)), 24) == colour).all()


def test_it_is_the_shorter_side_resized_and_the_centre_taken() -> None:
    pixels = photograph(96, 160)
    whole = Image.fromarray(pixels).resize((80, 48), Image.Resampling.BICUBIC)
    expected = np.asarray(whole.crop((16, 0, 64, 48))).astype(int)
    assert np.abs(stored_image(encoded(pixels), 48) - expected).max() <= 1


def test_an_image_of_the_stored_size_is_not_touched() -> None:
    pixels = photograph(32, 32)
    np.testing.assert_array_equal(stored_image(encoded(pixels), 32), pixels)


def test_a_large_jpeg_read_at_a_fraction_looks_the_same() -> None:
    pixels = photograph(1600, 2000)
    full, fraction = (
        stored_image(encoded(pixels, kind, **o), 64) for kind, o in (("PNG", {}), ("JPEG", {"quality": 95}))
    )
    assert np.abs(full.astype(int) - fraction).max() <= 6


def test_the_limit_counts_pixels_and_is_checked_before_decoding() -> None:
    data = encoded(photograph(40, 50))
    assert stored_image(data, 8, max_pixels=2000).shape == (8, 8, 3)
    with pytest.raises(TooManyPixels, match=r"50 x 40 pixels, more than the limit of 1,999"):
        stored_image(data, 8, max_pixels=1999)


PEAK_AFTER_BOMBS = """
from model.preprocess import TooManyPixels, stored_image
from tests.images import png_header

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

before = peak()
for sides in ((60_000, 60_000), (11_000, 10_000)):
    try:
        stored_image(png_header(*sides), 256)
    except TooManyPixels:
        print(peak() - before)
"""


def test_a_bomb_takes_no_memory() -> None:
    """In a process of its own: this one's peak may be that of an earlier test."""
    said = subprocess.run(
        [sys.executable, "-c", PEAK_AFTER_BOMBS], capture_output=True, text=True, check=True, cwd=ROOT
    )
    grown = [int(line) for line in said.stdout.split()]
    assert len(grown) == 2
    assert max(grown) < 50_000  # KB; the smaller one's pixels would take 440,000


def test_pillow_does_not_warn_about_an_image_below_the_limit() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(BadImage, match="cannot be decoded"):
            stored_image(png_header(9_600, 9_500), 256)  # below our limit, above the one at which Pillow warns
    assert not said


def test_a_broken_exif_tag_does_not_spoil_a_good_image() -> None:
    data = encoded(photograph(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x07\0\0\xff\xff")
    np.testing.assert_array_equal(stored_image(data, 32), stored_image(IMAGES["plain JPEG"](), 32))


@given(
    noise=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=30),
    cut=st.integers(0, 700),
)
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_are_decoded_or_refused_and_nothing_else(noise: list[tuple[int, int]], cut: int) -> None:
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        data = bytearray(encoded(photograph(20, 20), kind))
        for place, value in noise:
            data[place % len(data)] = value
        with contextlib.suppress(BadImage):
            assert stored_image(bytes(data[: len(data) - cut % 40]), 16, max_pixels=10**6).shape == (16, 16, 3)


def test_many_threads_decode_at_once() -> None:
    kinds = list(IMAGES) * 10
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda name: stored_image(IMAGES[name](), 16), kinds))
    for name, image in zip(kinds, images, strict=True):
        np.testing.assert_array_equal(image, stored_image(IMAGES[name](), 16))


@pytest.mark.parametrize(("size", "crop"), [(32, 28), (256, 224), (9, 4), (5, 5)])
def test_network_input_is_the_central_crop_minus_the_means(size: int, crop: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    mean = rng.uniform(0, 255, (size, size, 3)).astype(np.float32)
    start = (size - crop) // 2
    expected = (images.astype(np.float32) - mean)[:, start : start + crop, start : start + crop].transpose(0, 3, 1, 2)
    made = network_input(torch.from_numpy(images), torch.from_numpy(mean), crop)
    assert made.dtype == torch.float32
    assert made.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(made.numpy(), expected)


def test_network_input_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit the mean image"):
        network_input(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.zeros(9, 9, 3), 8)


def test_a_recipe_travels_as_json_and_refuses_what_this_code_cannot_do() -> None:
    recipe = Recipe(stored=256, crop=224)
    assert Recipe(**asdict(recipe)) == recipe
    with pytest.raises(ValueError, match="does not fit"):
        Recipe(stored=28, crop=32)
    with pytest.raises(ValueError, match="resizes bicubic"):
        Recipe(stored=32, crop=28, resample="nearest")
    with pytest.raises(ValueError, match="version"):
        Recipe(stored=32, crop=28, version=2)


def test_ten_views_are_corners_centre_and_their_mirrors() -> None:
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (3, 20, 20, 3), generator=random).to(torch.uint8)
    mean = torch.rand(20, 20, 3, generator=random) * 255
    views = list(ten_views(images, mean, 16))
    assert len(views) == 10
    torch.testing.assert_close(views[2], network_input(images, mean, 16))
    central = mean[2:18, 2:18].permute(2, 0, 1)
    for view, mirrored in zip(views[:5], views[5:], strict=True):
        torch.testing.assert_close(mirrored + central, (view + central).flip(3))
    for view, (top, left) in zip(views, [(0, 0), (0, 4), (2, 2), (4, 0), (4, 4)], strict=False):
        expected = images[:, top : top + 16, left : left + 16].permute(0, 3, 1, 2) - central
        torch.testing.assert_close(view, expected)
