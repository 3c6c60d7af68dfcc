"""One at a time, also after a holder died."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from unblur.core import exclusive as module
from unblur.core.errors import InputError
from unblur.core.exclusive import exclusive, lock_file

HOLD = """
import sys, time
from pathlib import Path
from unblur.core.exclusive import exclusive, lock_file
with exclusive(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_alone_nobody_waits_and_nothing_is_left(tmp_path: Path) -> None:
    said: list[str] = []
    with exclusive(tmp_path / "deep" / "x.engine", said.append) as waited:
        assert not waited
        assert lock_file(tmp_path / "deep" / "x.engine").read_text() == f"{os.getpid()}\n"
    assert list((tmp_path / "deep").iterdir()) == []
    assert said == []


def test_many_threads_are_inside_one_after_the_other(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter() -> None:
        nonlocal inside, most
        with exclusive(tmp_path / "x", lambda _: None):
            inside += 1
            most = max(most, inside)
            time.sleep(0.005)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_is_named_while_it_lives_and_holds_nobody_up_after(tmp_path: Path) -> None:
    path = tmp_path / "x.engine"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        holder.send_signal(signal.SIGKILL)

    with exclusive(path, say) as waited:
        assert waited
    holder.wait()
    assert len(said) == 1
    assert f"being made by process {holder.pid}" in said[0]
    lock_file(path).write_text("4194304\n")  # left by one that was killed
    with exclusive(path, say) as waited:
        assert not waited
    assert len(said) == 1


@pytest.mark.skipif(os.name != "posix", reason="Windows does not remove an open file")
def test_a_file_that_was_removed_between_opening_and_locking_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_file(tmp_path / "x")
    calls: list[int] = []

    class Late(FileLock):
        def _acquire(self) -> None:
            super()._acquire()
            calls.append(1)
            if len(calls) == 1:
                lock.unlink()  # what the holder before does last

    monkeypatch.setattr(module, "FileLock", Late)
    with exclusive(tmp_path / "x", print):
        assert lock.exists()
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["poetry.lock", ".poetry.unblur-lock"])
def test_a_file_of_the_users_is_neither_emptied_nor_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with contextlib.suppress(InputError), exclusive(tmp_path / "poetry", print):
        pass
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize("precious", ["precious", "4711\n", ""])
@pytest.mark.parametrize("name", ["e.engine.lock", ".e.engine.unblur-lock"])
@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_no_link_is_followed(tmp_path: Path, name: str, precious: str) -> None:
    (tmp_path / "precious").write_text(precious)
    os.utime(tmp_path / "precious", (1, 1))
    (tmp_path / name).symlink_to("precious")
    with contextlib.suppress(InputError), exclusive(tmp_path / "e.engine", print):
        pass
    assert (tmp_path / "precious").read_text() == precious
    assert (tmp_path / "precious").stat().st_mtime == 1
    assert (tmp_path / name).is_symlink()


def test_what_is_no_lock_is_told(tmp_path: Path) -> None:
    lock_file(tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="move it away"), exclusive(tmp_path / "x", print):
        pass


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "flat").touch()
    with pytest.raises(InputError, match="choose a folder"), exclusive(tmp_path / "flat" / "x", print):
        pass


def test_a_lock_that_is_released_while_it_is_looked_at_is_no_foreign_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look at the file may be the one before which its holder removes it."""
    genuine = {name: getattr(Path, name) for name in ("exists", "is_file", "lstat", "read_bytes")}

    def vanishing(name: str) -> Callable[..., Any]:
        def look(path: Path, **options: Any) -> Any:
            if path == lock_file(tmp_path / "e"):
                path.unlink(missing_ok=True)
            return genuine[name](path, **options)

        return look

    for name in genuine:
        with monkeypatch.context() as patch:
            lock_file(tmp_path / "e").write_text("1\n")
            patch.setattr(Path, name, vanishing(name))
            with exclusive(tmp_path / "e", lambda _: None):
                pass
