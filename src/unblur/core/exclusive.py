"""One at a time: a lock file beside an output that several processes may want to make.

The operating system holds the lock and lets go of it when the process ends, however it ends; so a lock file left by
a dead process stops nobody. The file has a hidden name of unblur's own and tells its holder, for the sentence that a
waiting person reads. No link is followed there, and what is no lock file is neither written to nor removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from unblur.core.artefacts import disk_errors
from unblur.core.errors import InputError

POLL_S = 0.05


@contextlib.contextmanager
def exclusive(path: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold the lock of `path` (the file `.<name>.unblur-lock` beside it); yield whether another held it first.

    Waits as long as it is held, and says once by whom. Raises InputError when the folder cannot be written to, and
    when something that is no lock has its name.
    """
    file = lock_file(path)
    waited = False
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while (lock := _take(file)) is None:
            if not waited:
                say(f"{path} is being made by {_holder(file)}; waiting for it (Ctrl-C gives up)")
            waited = True
            time.sleep(POLL_S)
    try:
        yield waited
    finally:
        _release(file, lock)


def forget(path: Path) -> None:
    """Remove the lock that a killed process left of a `path` that needs none any more."""
    file = lock_file(path)
    with contextlib.suppress(InputError, OSError):
        if file.exists() and (lock := _take(file)):
            _release(file, lock)


def lock_file(path: Path) -> Path:
    """Where the lock of `path` lies while it is held."""
    return path.with_name(f".{path.name}.unblur-lock")


def _take(file: Path) -> FileLock | None:
    """The lock, held and signed; None while another holds it."""
    if not _may_be_locked(file):
        raise InputError(f"{file} is where unblur keeps a lock, and is none; move it away.")
    lost = False

    def sign(descriptor: int) -> None:
        nonlocal lost
        # The holder before removes the file: between opening and locking, another may have come and made a new one.
        try:
            lost = not os.path.samestat(os.fstat(descriptor), file.stat(follow_symlinks=False))
        except FileNotFoundError:
            lost = True
        if not lost:
            os.ftruncate(descriptor, 0)
            with contextlib.suppress(OSError):  # a full disk: what is locked will say so better
                os.write(descriptor, f"{os.getpid()}\n".encode())

    lock = FileLock(file, mode=0o644, thread_local=False, on_acquired=sign)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    if lost:
        lock.release()
        return _take(file)
    return lock


def _release(file: Path, lock: FileLock) -> None:
    # First: once it is unlocked, the file may be another's. Windows removes none that the next has open already.
    with contextlib.suppress(PermissionError):
        file.unlink(missing_ok=True)
    lock.release()


def _may_be_locked(file: Path) -> bool:
    """Whether there is a lock file or nothing. Looked at once: its holder may remove it between two looks."""
    try:
        return stat.S_ISREG(file.lstat().st_mode) and re.fullmatch(rb"(\d+\r?\n)?", file.read_bytes()[:32]) is not None
    except (FileNotFoundError, PermissionError):  # released since; Windows forbids to read what is locked
        return True


def _holder(file: Path) -> str:
    try:
        pid = int(file.read_text())
        return f"process {pid} ({psutil.Process(pid).name()})"
    except (OSError, ValueError, psutil.Error):
        return "another process"
