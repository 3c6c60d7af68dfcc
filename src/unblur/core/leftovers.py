"""Temporary names that tell whose they are, so that what a kill or a lost power leaves does not stay for ever."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

OLD_S = 7 * 24 * 3600
NAME = re.compile(r"\.[0-9a-f]{8}\.(?P<pid>\d+)-(?P<where>[0-9a-f]{8})\.part(\..*)?", re.DOTALL)

_swept: set[Path] = set()


def temporary_name() -> str:
    """A short hidden name with the number of this process in it."""
    return f".{uuid.uuid4().hex[:8]}.{os.getpid()}-{_where()}.part"


@contextlib.contextmanager
def temporary_folder(room: int = 0) -> Iterator[Path]:
    """An empty folder among the system's temporary files, gone at the end. What dead processes left of theirs is swept:
    graphs of whole networks, of which a killed search would leave a disk full.

    Raises OSError (the disk is full) where less than `room` bytes are free: libraries that write there take it for
    damage of what they read.
    """
    place = Path(tempfile.gettempdir())
    sweep(place)
    if room and shutil.disk_usage(place).free < room:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{place} (TMPDIR), which takes {room} bytes")
    with tempfile.TemporaryDirectory(prefix=f"{temporary_name()}.", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def sweep(folder: Path) -> None:
    """Remove from a folder what dead processes left there under temporary names; looks once in each process.

    Those of another machine or container, or from before a reboot, of which nothing can be told, and those whose
    number another process has by now, go when they are a week old.
    """
    folder = folder.absolute()
    if folder in _swept:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError):  # a folder that may not be listed, or a file that is not ours to remove
        for entry in list(os.scandir(folder)):
            if (found := NAME.fullmatch(entry.name)) and _is_left(entry, int(found["pid"]), found["where"]):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)


def _is_left(entry: os.DirEntry[str], pid: int, where: str) -> bool:
    if where == _where() and not _lives(pid):
        return True
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > OLD_S


def _lives(pid: int) -> bool:
    """A zombie is dead: in a container whose first process waits for nobody, the killed stay so for ever."""
    try:
        return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:  # another user's, of which no more is to be seen
        return bool(psutil.pid_exists(pid))


@functools.cache
def _where() -> str:
    """What process numbers are unique in: a boot of a machine, or a container there."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        text = f"{platform.node()} {psutil.boot_time():.0f}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]
