"""Whether a JPEG has too many scans. Each goes over the whole image, and an empty one is a few dozen bytes.

Encoders write about ten. With 400 more, a file of 222 KB took 16 s to decode.
"""

import re

__all__ = ["MAX_SCANS", "too_many_scans"]

MAX_SCANS = 100

START, SCAN, END = b"\xff\xd8\xff", 0xDA, 0xD9
# What follows a marker byte in compressed data (0, restarts) is none, and some markers stand alone, without a length.
MARKER = re.compile(rb"\xff+[^\x00\x01\xd0-\xd8\xff]")


def too_many_scans(data: bytes) -> bool:
    """Return True for a JPEG of more than MAX_SCANS scans. Nothing is decoded."""
    if not data.startswith(START) or data.count(bytes([0xFF, SCAN])) <= MAX_SCANS:
        return False  # the two bytes may also stand in metadata, or in what follows the image: then there are fewer
    scans, at = 0, len(START) - 1
    while scans <= MAX_SCANS and (marker := MARKER.search(data, at)):
        kind, at = data[marker.end() - 1], marker.end()
        if kind == END:
            break
        scans += kind == SCAN
        at += max(2, int.from_bytes(data[at : at + 2], "big"))  # the length counts its own two bytes
    return scans > MAX_SCANS
