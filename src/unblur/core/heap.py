"""What the C library does with memory that was freed: it gives it back to the system, or keeps it for the next map.

glibc begins by giving blocks of 128 kB and more back and raises that threshold to the largest block that was freed
(mallopt(3)); every page given back is cleared anew when it is next wanted. How fast an engine is that asks malloc for
each of its maps then depends on what its process had freed before. Here it is said. Other C libraries have no such
switch and are left as they are.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

MAPPED_BYTES = 1 << 20
"""Maps from this size on are given back, where they are."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""

MMAP_THRESHOLD_MAX = 32 << 20
"""Where glibc's own adjustment ends; twice as much stays free at the top of its heap."""


def keep_freed_maps() -> None:
    """From now on as in a process that has freed a large map: eager PyTorch takes a tenth to a quarter less."""
    if (libc := _glibc()) is not None:
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MMAP_THRESHOLD_MAX)


@contextmanager
def maps_given_back() -> Iterator[None]:
    """Meanwhile a freed map is returned to the system at once; afterwards maps are kept.

    Below 32 MB glibc takes maps out of its heap, where aligned blocks leave holes that the next map does not fit
    (measured: 1.8 GB resident for maps of 8 MB of which a handful are alive). A pool of ONNX Runtime instead keeps 2 GB
    of larger ones.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
    try:
        yield
    finally:
        keep_freed_maps()
        trim_heap()


def trim_heap() -> None:
    """Give back what is free in the heap."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
