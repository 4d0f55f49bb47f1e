"""Download a published file of a known hash: a cut download is continued, and the file is in place only when whole.

Why not torch.hub's or torchvision's functions: they start again from the first byte, take a file of any length, and
wait without end for a server that sends nothing.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import files
from model.data.sources import Report, printable
from model.data.web import Answer, Cut, Patience, Unavailable, get

__all__ = ["Digest", "DownloadFailed", "Published", "cache_folder", "download"]

ATTEMPTS = 5  # at one address: after a cut that brought bytes, the next attempt continues there
MEGABYTE = 1_000_000
REASON = 300  # characters of a server's words that a message takes


class DownloadFailed(ValueError):
    """The file cannot be had; the message names every address with its reason, and how to give the file by hand."""


@dataclass(frozen=True)
class Digest:
    """A published hash."""

    algorithm: str  # as hashlib names it: "sha1", "sha256"
    digits: str  # hexadecimal, lower case: all of them, or the first few where only those are published

    def of(self, file: Path) -> bool:
        """Return whether the file has this hash. Raises OSError."""
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, self.algorithm).hexdigest().startswith(self.digits)

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digits}"


@dataclass(frozen=True)
class Published:
    """A file that others publish."""

    urls: tuple[str, ...]  # tried in this order; all have the same bytes
    digest: Digest
    limit: int  # bytes; a longer file is refused


def download(
    published: Published,
    file: Path,
    *,
    by_hand: str,
    report: Report = lambda *_: None,
    patience: Patience = Patience(),
) -> None:
    """Make sure that the published file is at `file`: download it unless it is there already.

    A file that is there is checked, and used without the network. What a cut download has brought stays in
    `file`.part, and the next call continues it. by_hand: how to give the file without a download; ends the message when
    no address has it. report: called with the file's name, megabytes so far, megabytes in all. Raises DownloadFailed,
    also for a file of that name with another hash, which stays as it is.
    """
    with files.translated(file, cannot=DownloadFailed, full=DownloadFailed):
        if _is_there(file, published.digest):
            return
        files.make_folder(file.parent)
        with _alone(file):
            if not _is_there(file, published.digest):  # else another process has downloaded it in between
                _Download(published, file, report, patience).run(by_hand)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder for downloads: $XDG_CACHE_HOME/fc7, or ~/.cache/fc7."""
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fc7"


def _is_there(file: Path, digest: Digest) -> bool:
    """Return whether the file is there. Raises DownloadFailed for another file of that name."""
    if not file.exists():
        return False
    try:
        ours = digest.of(file)
    except OSError as error:
        raise DownloadFailed(f"{file}: cannot be read: {error.strerror}") from error
    if not ours:
        raise DownloadFailed(f"{file}: not the published file ({digest}); remove it, or put the published one there")
    return True


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    try:
        lock = files.locked(file.with_name(f"{file.name}.lock"))
    except files.AlreadyLocked as error:
        raise DownloadFailed(
            f"{file}: another process is downloading it; run this again when that has ended"
        ) from error
    with lock:
        yield


class _Download:
    def __init__(self, published: Published, file: Path, report: Report, patience: Patience) -> None:
        self.published, self.file, self.report, self.patience = published, file, report, patience
        self.part = file.with_name(file.name + files.PART)

    def run(self, by_hand: str) -> None:
        """Try every address. Raises DownloadFailed, and OSError of the disk."""
        failures = []
        for url in self.published.urls:
            try:
                self._complete(url)
            except Unavailable as error:
                failures.append(f"{url}: {printable(str(error)[:REASON])}")
                continue
            files.sync(self.part)
            self.part.replace(self.file)
            files.sync(self.file.parent)
            return
        raise DownloadFailed(f"{self.file.name} cannot be downloaded ({'; '.join(failures)}): {by_hand}")

    def _complete(self, url: str) -> None:
        """Complete the part from one address. Raises Unavailable."""
        for left in reversed(range(ATTEMPTS)):
            had = self._length()
            if had and self.published.digest.of(self.part):  # whole: a process has ended just before its rename
                return
            try:
                content = self._continue(url, had)
            except Cut:
                if not left or self._length() <= had:
                    raise
                continue
            if self.published.digest.of(self.part):
                return
            length = self._length()
            self.part.unlink()
            if not had or not left:  # else the bytes from before may be the wrong ones: once more, from the first byte
                raise Unavailable(f"{length:,} bytes of {content}, not the published file ({self.published.digest})")

    def _length(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _continue(self, url: str, had: int) -> str:
        """Append to the part what is missing after `had` bytes, or write it anew. Return the content's type.

        Raises Unavailable, Cut.
        """
        with get(url, had, self.patience) as answer:
            if answer.total > self.published.limit:
                raise Unavailable(f"a file of {answer.total:,} bytes; at most {self.published.limit:,} are accepted")
            with self.part.open("ab" if answer.start else "wb") as part:
                for block in self._reported(answer):
                    part.write(block)
            return answer.content

    def _reported(self, answer: Answer) -> Iterator[bytes]:
        """Pass the blocks on, and report each megabyte; a file of less than one needs no report."""
        at, total, shown = answer.start, answer.total // MEGABYTE, -1
        for block in answer.blocks():
            at += len(block)
            if total and at // MEGABYTE > shown:
                shown = at // MEGABYTE
                self.report(self.file.name, shown, total)
            yield block
