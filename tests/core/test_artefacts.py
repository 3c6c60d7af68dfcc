"""Whole or not there, and what a full or read-only disk says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from unblur.core.artefacts import atomic_folder, atomic_path, atomic_paths, value_digest, write_json
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
        (errno.EFBIG, "larger than the limit"),
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


def test_an_error_without_a_number_or_a_name_is_a_sentence_too(tmp_path: Path) -> None:
    """As NumPy and Pillow raise them, and as a write to an open file does."""
    for error in (OSError("12 requested and 4 written"), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken")):
        with pytest.raises(InputError, match=r"Cannot write .*a\.bin"), atomic_path(tmp_path / "a.bin"):
            raise error
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a.bin"):
        raise PermissionError(errno.EACCES, "elsewhere", "/elsewhere/input")


KILLED = """
import os, signal, sys
from pathlib import Path
count, place = int(sys.argv[1]), Path(sys.argv[2])
def killing(real):
    def call(*args, **kwargs):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
from unblur.core import artefacts
for name in ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "open"):
    setattr(os, name, killing(getattr(os, name)))
if sys.argv[3] == "files":
    with artefacts.atomic_paths(place / "a", place / "b", place / "marker") as temporaries:
        for temporary in temporaries:
            temporary.write_bytes(b"new")
else:
    with artefacts.atomic_folder(place / "folder") as folder:
        for name in ("a", "b"):
            (folder / name).write_bytes(b"new")
"""


@pytest.mark.parametrize("what", ["files", "folder"])
def test_killed_before_any_step_a_generation_is_whole_or_not_there(tmp_path: Path, what: str) -> None:
    for step in range(1, 60):
        place = tmp_path / str(step)
        if what == "files":
            names = ["a", "b", "marker"]
            with atomic_paths(*(place / name for name in names)) as temporaries:
                for temporary in temporaries:
                    temporary.write_bytes(b"old")
        else:
            names = ["folder/a", "folder/b"]
            with atomic_folder(place / "folder") as folder:
                for name in ("a", "b"):
                    (folder / name).write_bytes(b"old")
        done = subprocess.run([sys.executable, "-c", KILLED, str(step), str(place), what], check=False)
        found = {(place / name).read_bytes() if (place / name).exists() else None for name in names}
        if done.returncode == 0:
            assert found == {b"new"}
            break
        vouched = (place / names[-1]).exists() if what == "files" else (place / "folder").exists()
        assert not vouched or len(found) == 1, step
    else:
        pytest.fail("never came to the end")
    assert step > 8
