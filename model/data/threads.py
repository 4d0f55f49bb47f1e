"""Reading and decoding in threads: a list on all cores, and the stages of a pipeline, each one item ahead of the next.

Threads are enough: Pillow, zlib, torch and the disk work without holding the interpreter's lock.
"""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from typing import TypeVar

__all__ = ["ahead", "on_all_cores"]

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_ONCE = 16  # items that a thread takes at a time, at most: handing over one costs more than many a small image
SHARES = 4  # for each thread, at least: so that none waits long for the others at the end


def on_all_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return function(item) for each item, in order; the first error is raised. Not from within `function`."""
    everything = list(items)
    size = max(1, min(AT_ONCE, len(everything) // (SHARES * (os.cpu_count() or 1))))
    shares = [everything[start : start + size] for start in range(0, len(everything), size)]

    def work(share: Sequence[Item]) -> list[Result]:
        return [function(item) for item in share]

    return [result for results in _pool(os.getpid()).map(work, shares) for result in results]


def ahead(items: Generator[Result, None, None]) -> Generator[Result, None, None]:
    """Yield the items in order; a thread makes the next one, and no other, while the caller works on the last.

    An error in `items` is raised after the items that came before it. When the caller stops, the item in the making is
    the last: then `items` is closed and the thread ends, before `close` returns. A second Ctrl-C ends that wait.
    """
    thread = ThreadPoolExecutor(1, "ahead")
    try:
        coming = thread.submit(list, islice(items, 1))
        while item := coming.result():
            coming = thread.submit(list, islice(items, 1))
            yield item.pop()
    finally:
        thread.shutdown()  # Ctrl-C ends this wait, and then `items` is still at work and cannot be closed
        items.close()


@lru_cache(maxsize=1)
def _pool(_process: int) -> ThreadPoolExecutor:
    """One pool a process: a fork has a copy of its parent's pool, but none of the threads. It ends with the process."""
    return ThreadPoolExecutor(os.cpu_count(), "decoder")
