"""Files that are whole or not there: atomic writes, digests, JSON sidecars."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unblur.core.errors import InputError
from unblur.core.leftovers import sweep, temporary_name


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is synced and renamed, on any failure removed.

    Raises InputError when the folder cannot be written to or the disk is full; what stood under `path`
    before is then untouched.
    """
    with atomic_paths(path) as (temporary,):
        yield temporary


@contextlib.contextmanager
def atomic_paths(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """As `atomic_path` for files that belong together; the last one vouches for the others.

    All are whole on the disk before the first gets its name. The last one is taken away before that and gets its name
    at the end, so that after a kill at any moment it never stands beside files of another generation.
    """
    with disk_errors(*paths):
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            if path.is_dir():
                raise InputError(f"Cannot write {path}: it is a directory; name a file.")
        # The suffix stays last: writers such as Pillow choose the format by it. Nothing else is of the final name,
        # which may have every byte that a file system allows.
        temporaries = tuple(
            path.with_name(temporary_name() + (path.suffix if len(path.suffix) < 16 else "")) for path in paths
        )
        try:
            yield temporaries
            for temporary in temporaries:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            *others, (voucher, last) = zip(temporaries, paths, strict=True)
            if others:
                last.unlink(missing_ok=True)
                _sync_folder(last.parent)
            for temporary, path in others:
                temporary.replace(path)
                _sync_folder(path.parent)
            voucher.replace(last)
            _sync_folder(last.parent)
        finally:
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic_path` for a folder of files: yield an empty one that takes the place of `path` when it is filled.

    What stood there is renamed aside first and removed last: half a folder never stands under the name.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary, aside = (path.with_name(temporary_name()) for _ in range(2))
        temporary.mkdir()
        try:
            yield temporary
            for inner in temporary.rglob("*"):
                if inner.is_file():
                    with inner.open("rb") as file:
                        os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):
                path.replace(aside)
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            if not path.exists() and aside.exists():  # interrupted between the two renames
                aside.replace(path)
            for left in (temporary, aside):
                shutil.rmtree(left, ignore_errors=True)


FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file would be larger than the limit of this process (ulimit -f) or of the disk"}  # fmt: skip


@contextlib.contextmanager
def disk_errors(*paths: Path) -> Iterator[None]:
    """Turn errors of the disk, also those without a number that libraries make of them, into sentences that name the
    first of `paths`; an error about a file elsewhere passes through as it is.
    """
    path = paths[0]
    try:
        yield
    except OSError as error:
        touched = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
        if error.errno in FULL:
            raise InputError(
                f"Cannot write {path}: {FULL[error.errno]}. Make room and run the same command again."
            ) from error
        if touched is not None and error.errno is not None:
            if any(one.parent in (touched, *touched.parents) or touched in one.parents for one in paths):
                raise InputError(f"Cannot write {path}: {error.strerror}; choose a folder you may write to.") from error
            raise
        if error.errno in (None, errno.EIO, errno.EROFS):
            raise InputError(f"Cannot write {path}: {error}; try another disk.") from error
        raise


Recognise = Callable[[Path], bool]
"""Whether an existing file is one that unblur wrote, of a certain kind."""


def protect(outputs: Mapping[Path, Recognise], inputs: Iterable[Path | None]) -> None:
    """Refuse to lose what is not ours. Doors call it before any work, with every file that the work will write.

    outputs: each file, companions too, and what tells whether one that stands there is unblur's own of that kind.
    inputs: files and folders (then each file below) that are read; None is skipped.

    Raises InputError where an output is an input, by its inode, whatever links or names lead to it; where it is a
    folder or no regular file; and where it holds something (an empty file is nothing) that unblur did not write.
    """
    refuse_inputs(outputs, inputs)
    for path in outputs:
        if (status := _status(path)) is None:
            continue
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"Cannot write {path}: it is a directory; name a file.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"Cannot write {path}: it is a device or a pipe, not a file; name a file.")
        try:
            ours = status.st_size == 0 or outputs[path](path)
        except OSError as error:
            raise InputError(
                f"Cannot write {path}: what stands there cannot be read ({error.strerror}); move it away."
            ) from error
        if not ours:
            raise InputError(
                f"{path} exists and is not what unblur writes there; move it away, or choose another name."
            )


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """The first half of `protect`, where a person may insist on replacing files that unblur did not write."""
    there = {path: status for path in outputs if (status := _status(path)) is not None}
    read = _identities(inputs) if there else {}
    for path, status in there.items():
        if source := read.get((status.st_dev, status.st_ino)):
            raise InputError(
                f"{path} is the same file as the input {source}: unblur never writes over its input. Choose another "
                "output."
            )


def refuse_nested(output: Path, what: str, folders: Iterable[Path | None]) -> None:
    """Raise InputError where an output folder, `what` in words, is one of the folders that are read or lies in one:
    what is written there would be read the next time."""
    own = output.resolve()
    for folder in folders:
        if folder is None or not folder.is_dir():
            continue
        read = folder.resolve()
        if own == read or read in own.parents:
            how = "is" if own == read else "lies in"
            raise InputError(f"{what} {output} {how} {folder}, whose pictures are read; name a folder of its own.")


def json_with(*keys: str) -> Recognise:
    """Recognises a JSON object that has all these keys."""

    def recognise(path: Path) -> bool:
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and set(keys) <= value.keys()

    return recognise


def text_with(mark: str) -> Recognise:
    """Recognises a file that holds these characters, in UTF-8, anywhere: also a big binary one."""

    def recognise(path: Path) -> bool:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return content.find(mark.encode()) >= 0

    return recognise


def _status(path: Path) -> os.stat_result | None:
    """Of what a name leads to; None where there is nothing."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # a name that is too long, a loop of links, a folder that may not be entered
        raise InputError(f"Cannot use {path}: {error.strerror}; choose another path.") from error


def _identities(inputs: Iterable[Path | None]) -> dict[tuple[int, int], Path]:
    """Device and inode of every file that is read -> the name it is read by."""
    found: dict[tuple[int, int], Path] = {}
    for path in inputs:
        if path is None or (status := _status(path)) is None:
            continue
        found.setdefault((status.st_dev, status.st_ino), path)
        if stat.S_ISDIR(status.st_mode):
            for folder, _, names in os.walk(path):
                for inner in (Path(folder, name) for name in names):
                    if (status := _status(inner)) is not None:
                        found.setdefault((status.st_dev, status.st_ino), inner)
    return found


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file atomically. Raises InputError as `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write small files that belong together; the last one vouches for the others. Raises as `atomic_paths`."""
    with atomic_paths(*files) as temporaries:
        for temporary, data in zip(temporaries, files.values(), strict=True):
            temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys atomically."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Indented JSON with sorted keys, as files hold it."""
    return (json_text(value) + "\n").encode()


def json_text(value: Any, indent: int | None = 2) -> str:
    """JSON that every reader takes: keys sorted, names of any bytes as ASCII.

    Raises ValueError for NaN and infinity, which JSON has not: whoever holds such a number writes a word for it
    (unblur.metrics.decibels).
    """
    return json.dumps(value, indent=indent, sort_keys=True, allow_nan=False)


def write_sealed(path: Path, data: bytes) -> None:
    """Write bytes and behind them their SHA-256: for files that nothing else vouches for. Readers of PNG and of NumPy's
    files overlook what follows their end. Raises InputError as `atomic_path`.
    """
    write_bytes(path, data + hashlib.sha256(data).digest())


def read_sealed(path: Path) -> bytes | None:
    """What `write_sealed` wrote; None where the file is missing, cannot be read, is damaged or has no seal: it is made
    again then.
    """
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    data, seal = whole[:-32], whole[-32:]
    return data if hashlib.sha256(data).digest() == seal else None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open folders; its rename is journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
