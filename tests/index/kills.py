"""Changes of a bundle, and a program that makes them in processes which the kernel ends on the way, as kill -9 does.

python -m tests.index.kills reads lines like `add BUNDLE CHECKPOINT CALLS SECONDS` and answers each with the exit status
of the process that made the change, and with the number of calls that it had made if it was not ended before.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from index import Bundle, Generation, Layout, keep_canaries
from index.assembly import Measure
from tests.index.blocks import INPUTS, File, Files, Run, build, changes, collection

FEW = 40  # images
PLAIN = Run(layout=Layout(map="pca"))


def changed() -> Files:
    """Return the collection after some files came, went, changed, or got another name."""
    first, second, third, fourth, _, *others = (f for f in collection(FEW).files if f.bytes)
    renamed, touched, rewritten = second._replace(name="renamed"), third._replace(time=1), fourth._replace(bytes="new")
    new = [File(f"new/{i}", f"new {i}", 1) for i in range(12)]
    return Files([first, renamed, touched, rewritten, *others, *new, File("copy", first.bytes)])


def keeping(source: Files, count: int) -> Measure:
    """Return what keeps so many canaries when the files are published."""

    def keep(generation: Generation) -> dict[str, Any]:
        with patch("index.canaries.COUNT", count):  # few: each takes five steps, and a test is killed between any two
            keep_canaries(generation, source.key, source.original)
        return {}

    return keep


def prepare(bundle: Path, checkpoint: Path) -> None:
    """Make the bundle that is changed."""
    for count in (FEW // 2, FEW):
        build(bundle, checkpoint, collection(count), PLAIN, measure=keeping(collection(count), 1)).close()


def _add(bundle: Path, checkpoint: Path, run: Run = PLAIN) -> None:
    if not changes(bundle, changed(), run).empty:
        build(bundle, checkpoint, changed(), run, keeping(changed(), 2)).close()


def _anew(bundle: Path, checkpoint: Path) -> None:
    _add(bundle, checkpoint, Run({**INPUTS, "weights": "another network"}, layout=PLAIN.layout))


def _remove(bundle: Path, _: Path, ids: tuple[int, ...] = (2, 9, 30)) -> None:
    current = Bundle(bundle).current()
    if set(ids) & set(current.ids.tolist()):
        Bundle(bundle).remove(ids).close()
    current.close()


def _compact(bundle: Path, checkpoint: Path) -> None:
    _remove(bundle, checkpoint, (1, 2, 3, 4, 5, 6, 8, 9, 30))


CHANGES: dict[str, Callable[[Path, Path], None]] = {
    "build": _anew,
    "add": _add,
    "remove": _remove,
    "compact": _compact,
}


def _count(kill_at: int, seconds: float) -> Callable[[], int]:
    """Let the kernel end this process `seconds` after its call number `kill_at`; return what tells the calls so far."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == kill_at:
            signal.setitimer(signal.ITIMER_REAL, seconds)  # nothing handles SIGALRM, so it ends the process

    sys.setprofile(count)
    return lambda: calls


def main() -> None:
    """Answer lines until there are no more."""
    for line in sys.stdin:
        what, bundle, checkpoint, calls, seconds = line.split()
        reading, writing = os.pipe()
        if not (child := os.fork()):
            counted = _count(int(calls), float(seconds))
            CHANGES[what](Path(bundle), Path(checkpoint))
            sys.setprofile(None)
            os.write(writing, b"%d" % counted())
            os._exit(0)
        os.close(writing)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{status} {os.read(reading, 20).decode()}\n")
        sys.stdout.flush()
        os.close(reading)


if __name__ == "__main__":
    main()
