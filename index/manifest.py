"""manifest.json: what a generation holds, with the size and the SHA-256 of every other file of its folder."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["MANIFEST", "BadBundle", "DamagedPart", "Manifest", "OldFormat", "Part", "fingerprint"]

FORMAT = 2
MANIFEST = "manifest.json"
AGAIN = "build the index again with scripts/build_index.py"


class BadBundle(ValueError):
    """The bundle is missing, damaged, not of this format, or cannot be written; the message says which part."""


class DamagedPart(BadBundle):
    """A file of a generation is not the one that was published."""

    def __init__(self, generation: Path, part: str, why: str) -> None:
        super().__init__(f"{generation / part}: {why}")
        self.part = part


class OldFormat(BadBundle):
    """The generation was written by version 0.1 of this code."""


class Part(NamedTuple):
    """One file of a generation."""

    bytes: int
    sha256: str  # of its bytes, in hexadecimal


@dataclass(frozen=True)
class Manifest:
    """What a generation holds, as manifest.json records it."""

    number: int
    created: str  # UTC, ISO 8601
    rows: int  # n, images that are in the collection
    width: int  # d
    classes: tuple[str, ...]
    next_id: int  # no image has had this id, nor a larger one
    inputs: Mapping[str, str]  # fingerprints of what made the features, `weights` and `recipe` among them
    engine: str  # that computed the features
    segments: tuple[str, ...]  # their folders' names, in the order of their image ids
    index: Mapping[str, Any]  # the fields of the Layout in which the segments are kept
    ledger: Mapping[str, int]  # the last run: its inputs, and how many of them ended in which way
    parts: Mapping[str, Part]  # every other file of the folder, by its path there
    quality: Mapping[str, Any] = field(default_factory=dict)  # what the build measured; empty where it did not

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        fields = {
            "format": FORMAT,
            **asdict(self),
            "parts": {name: part._asdict() for name, part in self.parts.items()},
        }
        return json.dumps({**fields, "checksum": _checksum(fields)}, indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read manifest.json. Raises BadBundle for a file that is missing, changed or of another format."""
        try:
            fields = json.loads(path.read_text())
            if fields["format"] == 1:
                raise OldFormat(f"{path}: its format is 1, this code reads {FORMAT}: {AGAIN}")
            if fields.pop("format") != FORMAT:
                raise BadBundle(f"{path}: not of format {FORMAT}, but of a newer version of this code")
            if fields.pop("checksum") != _checksum({"format": FORMAT, **fields}):
                raise BadBundle(f"{path}: it was changed after it was published (its checksum differs)")
            for name in ("classes", "segments"):
                fields[name] = tuple(fields[name])
            return cls(**{**fields, "parts": {name: Part(**part) for name, part in fields["parts"].items()}})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, BadBundle):
                raise
            raise BadBundle(f"{path}: not a manifest: {error!r}") from error


def _checksum(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def fingerprint(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
