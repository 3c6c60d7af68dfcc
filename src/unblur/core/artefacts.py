"""Files that are whole or not there: atomic writes, digests, JSON sidecars."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unblur.core.errors import InputError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is synced and renamed, on any failure removed.

    Raises InputError when the folder cannot be written to or the disk is full; what stood under `path`
    before is then untouched.
    """
    # The suffix stays last: writers such as Pillow choose the format by it. The rest is not of the final name, which
    # may have every byte that a file system allows.
    temporary = path.with_name(f".{uuid.uuid4().hex[:16]}.part{path.suffix if len(path.suffix) < 16 else ''}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise InputError(f"Cannot write {path}: it is a directory; name a file.")
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic_path` for a folder of files: yield an empty one that takes the place of `path` when it is filled."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    with disk_errors(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk into sentences; an error about a file elsewhere passes through as it is."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"The disk is full: {path} was not written. Free some space and run the same command again."
            ) from error
        if isinstance(error.filename, str):
            touched = Path(error.filename)
            if path.parent in (touched, *touched.parents) or touched in path.parents:
                raise InputError(f"Cannot write {path}: {error.strerror}; choose a folder you may write to.") from error
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file atomically. Raises InputError as `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys atomically."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open folders; its rename is journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
