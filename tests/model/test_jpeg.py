"""A JPEG of more scans than an encoder writes is refused before it is decoded, and no other file is taken for one."""

import pytest

from model.jpeg import MAX_SCANS, more_scans, most_scans
from model.preprocess import BadImage, decoded, stored_image
from tests.images import encoded, photograph, with_scans

WRITTEN = with_scans(0, photograph()).count(b"\xff\xda")  # by the encoder
MOST = MAX_SCANS - WRITTEN


def test_it_is_refused_from_the_first_scan_too_many() -> None:
    assert decoded(with_scans(MOST, photograph()), 32).size == (64, 48)
    with pytest.raises(BadImage, match="a JPEG of 64 x 48 pixels with more than 100 scans, which is the limit"):
        stored_image(with_scans(MOST + 1, photograph()), 32)


@pytest.mark.parametrize(
    ("pixels", "most"), [(1, 100), (10_000_000, 100), (20_000_000, 50), (50_000_000, 20), (10**9, 20)]
)
def test_a_large_image_may_have_fewer_scans_and_none_fewer_than_encoders_write(pixels: int, most: int) -> None:
    assert most_scans(pixels) == most
    assert most >= 2 * WRITTEN


def test_a_large_image_with_more_scans_is_refused() -> None:
    large = photograph(3000, 4000)
    assert decoded(with_scans(83 - WRITTEN, large), 32).size == (500, 375)
    with pytest.raises(BadImage, match="a JPEG of 4000 x 3000 pixels with more than 83 scans, which is the limit"):
        decoded(with_scans(84 - WRITTEN, large), 32)


@pytest.mark.parametrize("fill", [b"\xff", 50 * b"\xff"], ids=len)
def test_bytes_between_the_scans_do_not_hide_them(fill: bytes) -> None:
    assert more_scans(with_scans(MOST + 1, photograph()).replace(b"\xff\xda", fill + b"\xff\xda"), MAX_SCANS)


def test_what_looks_like_scans_elsewhere_is_not_counted() -> None:
    scans = 200 * b"\xff\xda\x00\x02"
    data = encoded(photograph(), "JPEG")
    in_comment = data[:2] + b"\xff\xfe" + (2 + len(scans)).to_bytes(2, "big") + scans + data[2:]
    for harmless in (in_comment, data + scans, scans):
        assert not more_scans(harmless, MAX_SCANS)


@pytest.mark.parametrize("end", [b"", b"\xff", b"\xff\xda", b"\xff\xda\x00"], ids=len)
def test_a_file_that_ends_early_is_counted_to_its_end(end: bytes) -> None:
    data = with_scans(MOST + 1, photograph())[:-2]
    assert more_scans(data + end, MAX_SCANS)
    assert not more_scans(data[: data.rindex(b"\xff\xda")], MAX_SCANS)
