"""A JPEG of more scans than an encoder writes is refused before it is decoded, and no other file is taken for one."""

import pytest

from model.jpeg import MAX_SCANS, too_many_scans
from model.preprocess import BadImage, decoded, stored_image
from tests.images import encoded, photograph, with_scans

WRITTEN = with_scans(0, photograph()).count(b"\xff\xda")  # by the encoder
MOST = MAX_SCANS - WRITTEN


def test_it_is_refused_from_the_first_scan_too_many() -> None:
    assert decoded(with_scans(MOST, photograph()), 32).size == (64, 48)
    with pytest.raises(BadImage, match="a JPEG with more than 100 scans, which is the limit"):
        stored_image(with_scans(MOST + 1, photograph()), 32)


@pytest.mark.parametrize("fill", [b"\xff", 50 * b"\xff"], ids=len)
def test_bytes_between_the_scans_do_not_hide_them(fill: bytes) -> None:
    assert too_many_scans(with_scans(MOST + 1, photograph()).replace(b"\xff\xda", fill + b"\xff\xda"))


def test_what_looks_like_scans_elsewhere_is_not_counted() -> None:
    scans = 200 * b"\xff\xda\x00\x02"
    data = encoded(photograph(), "JPEG")
    in_comment = data[:2] + b"\xff\xfe" + (2 + len(scans)).to_bytes(2, "big") + scans + data[2:]
    for harmless in (in_comment, data + scans, scans):
        assert not too_many_scans(harmless)


@pytest.mark.parametrize("end", [b"", b"\xff", b"\xff\xda", b"\xff\xda\x00"], ids=len)
def test_a_file_that_ends_early_is_counted_to_its_end(end: bytes) -> None:
    data = with_scans(MOST + 1, photograph())[:-2]
    assert too_many_scans(data + end)
    assert not too_many_scans(data[: data.rindex(b"\xff\xda")])
