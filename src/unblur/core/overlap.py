"""Work that goes on beside other work, in order and within bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREAD_NAMES = "unblur-ahead"
"""How the names of threads that work ahead begin."""


@contextmanager
def ahead(items: Iterable[T], work: Callable[[T], R], *, workers: int = 1) -> Iterator[Iterator[R]]:
    """`work` of every item, in their order, done by `workers` threads while the caller is busy with results before.

    At most `workers` results wait or are being made. The items are drawn in the caller's thread, so that they may
    themselves be work: `with ahead(paths, decode) as frames, ahead(map(run, frames), score) as scores` decodes, runs
    and scores at once, runs in the caller's thread alone, and draws nothing faster than scores are taken.

    What `work` raises comes up in its item's turn, in the caller's thread. Leaving the context, by whatever way, waits
    for the items that were drawn, so that work which writes something down loses none; then no thread is left.
    """
    pool = ThreadPoolExecutor(workers, THREAD_NAMES)

    def results() -> Iterator[R]:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield results()
    finally:
        pool.shutdown(wait=True)
