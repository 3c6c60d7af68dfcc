"""One at a time: a lock file beside an output that several processes may want to make.

The operating system holds the lock and lets go of it when the process ends, however it ends; so a lock file left by
a dead process stops nobody. The file names its holder, for the sentence that a waiting person reads.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from unblur.core.artefacts import disk_errors

POLL_S = 0.2


@contextlib.contextmanager
def exclusive(path: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold the lock of `path` (the file `<path>.lock`); yield whether another process held it first.

    Waits as long as it is held, and says once by whom. Raises InputError when the folder cannot be written to.
    """
    lock = path.with_name(path.name + ".lock")
    waited = False
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while (descriptor := _take(lock)) is None:
            if not waited:
                say(f"{path} is being made by {_holder(lock)}; waiting for it (Ctrl-C gives up)")
            waited = True
            time.sleep(POLL_S)
    try:
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield waited
    finally:
        _release(lock, descriptor)


def _take(lock: Path) -> int | None:
    """The open, locked file; None while another holds it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    if not _lock(descriptor):
        os.close(descriptor)
        return None
    # The holder before removes the file: between opening and locking, another may have come and made a new one.
    try:
        same = os.path.samestat(os.fstat(descriptor), lock.stat())
    except FileNotFoundError:
        same = False
    if not same:
        os.close(descriptor)
        return _take(lock)
    os.ftruncate(descriptor, 0)
    return descriptor


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        # Windows forbids others to read locked bytes: lock one far behind the text.
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return True

    def _release(lock: Path, descriptor: int) -> None:
        os.close(descriptor)
        with contextlib.suppress(PermissionError):  # the next holder has it open already
            lock.unlink(missing_ok=True)

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(lock: Path, descriptor: int) -> None:
        lock.unlink(missing_ok=True)  # first: once it is unlocked, the file may be another's
        os.close(descriptor)


def _holder(lock: Path) -> str:
    try:
        pid = int(lock.read_text())
        return f"process {pid} ({psutil.Process(pid).name()})"
    except (OSError, ValueError, psutil.Error):
        return "another process"
