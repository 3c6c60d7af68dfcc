"""Read what others wrote: regular files only, and JSON of any shape without a RecursionError."""

from __future__ import annotations

import json
import os
import stat
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from unblur.core.errors import InputError

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)

DAMAGED_ARCHIVE = (
    FileNotFoundError, EOFError, LookupError, RuntimeError, TypeError, ValueError,
    tokenize.TokenError,  # a header of zero bytes, from Python 3.12 on
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise for an .npz with changed or missing bytes, and for none."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read its bytes; a pipe would wait for ever, and /dev/zero never ends.

    Raises InputError for anything but a regular file, and for a name that no file can have; OSError as `open`.
    """
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would hold us here.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # NUL in the name
        raise InputError(f"{str(path)!r} is no name that a file can have ({error}); correct it.") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no regular file")
        raise InputError(f"{path} cannot be opened: it is {kind}, and only a regular file is read; name one.")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path) -> bytes:
    """All bytes of a file. Raises as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def parse_json(text: str | bytes) -> Any:
    """The JSON value. Raises ValueError for anything else, also for what is nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_json(path: Path) -> Any:
    """The JSON value of a file. Raises InputError where the file is missing, no regular file or no JSON."""
    try:
        return parse_json(read_regular(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check the name and its permissions.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON, or only a part of it ({error}); make it again.") from error
