"""Whether a JPEG has too many scans. Each goes over the whole image, and an empty one is a few dozen bytes.

Encoders write about ten. With 400 more, a file of 222 KB took 16 s to decode; with 85 more, one of 49 megapixels 3 s.
"""

import re

__all__ = ["more_scans", "most_scans"]

MAX_SCANS, ENOUGH = 100, 20  # of a small image, and of one of any size: twice what encoders write
SCANNED = 1_000_000_000  # pixels of all scans together: 100 scans of 10 megapixels take less than a second

START, SCAN, END = b"\xff\xd8\xff", 0xDA, 0xD9
# What follows a marker byte in compressed data (0, restarts) is none, and some markers stand alone, without a length.
MARKER = re.compile(rb"\xff+[^\x00\x01\xd0-\xd8\xff]")


def most_scans(pixels: int) -> int:
    """Return how many scans a JPEG of so many pixels (width x height) may have."""
    return min(MAX_SCANS, max(ENOUGH, SCANNED // pixels))


def more_scans(data: bytes, most: int) -> bool:
    """Return whether this is a JPEG of more than `most` scans. Nothing is decoded."""
    if not data.startswith(START) or data.count(bytes([0xFF, SCAN])) <= most:
        return False  # the two bytes may also stand in metadata, or in what follows the image: then there are fewer
    scans, at = 0, len(START) - 1
    while scans <= most and (marker := MARKER.search(data, at)):
        kind, at = data[marker.end() - 1], marker.end()
        if kind == END:
            break
        scans += kind == SCAN
        at += max(2, int.from_bytes(data[at : at + 2], "big"))  # the length counts its own two bytes
    return scans > most
