"""Reading and decoding in threads: a list on all cores, a stream one item ahead.

Threads are enough: Pillow, zlib and the disk work without holding the interpreter's lock.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

__all__ = ["ahead", "on_all_cores"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_all_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return function(item) for each item, in order; the first error is raised. Not from within `function`."""
    return list(_pool(os.getpid()).map(function, items))


def ahead(jobs: Iterable[Callable[[], Result]]) -> Iterator[Result]:
    """Yield each job's result in order; the next job runs in a thread while the caller works on the last result."""
    with ThreadPoolExecutor(1, "ahead") as thread:
        running = (thread.submit(job) for job in jobs)  # lazily: one job ahead, no more
        coming = next(running, None)
        while coming is not None:
            result, coming = coming.result(), next(running, None)
            yield result


@lru_cache(maxsize=1)
def _pool(_process: int) -> ThreadPoolExecutor:
    """One pool a process: a fork has a copy of its parent's pool, but none of the threads. It ends with the process."""
    return ThreadPoolExecutor(os.cpu_count(), "decoder")
