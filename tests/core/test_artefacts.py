"""Whole or not there, and what a full or read-only disk says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from unblur.core.artefacts import atomic_path, value_digest, write_json
from unblur.core.errors import InputError


def write_and_fail(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"after")
        raise ZeroDivisionError


def test_failure_keeps_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "choose a folder"),
        (errno.EROFS, "choose a"),
        (errno.EFBIG, "Cannot write"),
        (errno.EIO, "Cannot write"),
    ],
)
def test_disk_errors_are_sentences(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(InputError, match=words), atomic_path(tmp_path / "a"):
        raise OSError(number, os.strerror(number), str(tmp_path / ".a.part"))


def test_a_folder_is_no_file_and_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"), atomic_path(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write"), atomic_path(tmp_path / "file" / "inner"):
        pass


def test_json_is_strict_and_takes_a_name_of_any_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": os.fsdecode(b"gr\xfc\xdfe.png")})
    assert (tmp_path / "a.json").read_bytes().isascii()
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "b.json", {"psnr_db": value})
        with pytest.raises(ValueError, match="not JSON compliant"):
            value_digest(value)
    assert not (tmp_path / "b.json").exists()


def test_sigkill_midway_leaves_no_file_of_that_name(tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from unblur.core.artefacts import atomic_path
        with atomic_path(Path({str(tmp_path)!r}) / "a.bin") as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode != 0
    assert not (tmp_path / "a.bin").exists()
    write_json(tmp_path / "a.bin", {"whole": True})
    assert (tmp_path / "a.bin").exists()
