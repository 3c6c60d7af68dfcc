"""What a killed process leaves goes, what a living one is writing stays, and nothing else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from unblur.core import leftovers
from unblur.core.artefacts import atomic_path, write_bytes

WRITE = """
import sys, time
from pathlib import Path
from unblur.core.artefacts import atomic_folder, atomic_path
with atomic_path(Path(sys.argv[1]) / "a.bin") as file, atomic_folder(Path(sys.argv[1]) / "folder") as folder:
    file.write_bytes(b"half")
    (folder / "inner").write_bytes(b"half")
    print("half", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def as_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_swept", set())


def half_written(folder: Path) -> subprocess.Popen[str]:
    writer = subprocess.Popen([sys.executable, "-c", WRITE, str(folder)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    return writer


def test_a_temporary_folder_goes_at_its_end_and_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os; from unblur.core.leftovers import temporary_folder\n"
        "with temporary_folder(): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)})
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # dead, and a zombie
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with leftovers.temporary_folder() as folder:
        (folder / "graph.onnx").write_bytes(b"")
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []
    killed.wait()
    with pytest.raises(OSError, match="No space left"), leftovers.temporary_folder(2**62):
        pass


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if ".part" in path.name]


def test_what_the_dead_left_goes_and_what_the_living_write_stays(tmp_path: Path) -> None:
    dead, living = half_written(tmp_path), half_written(tmp_path)
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    assert len(parts(tmp_path)) == 4
    own = [".mine.part", ".0123abcd.part.png", ".0123abcd.99999999.part", "a.part"]
    for name in own:
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (1, 1))
    write_bytes(tmp_path / "b.bin", b"whole")
    left = {path.name for path in parts(tmp_path)} - set(own)
    assert len(left) == 2
    assert all(f".{living.pid}-" in name for name in left)
    assert all((tmp_path / name).read_text() == "mine" for name in own)
    living.kill()
    living.wait()


def test_of_another_machine_only_the_old_go(tmp_path: Path) -> None:
    old, new = (tmp_path / f".{k:08x}.1-00000000.part.png" for k in range(2))
    for path in (old, new):
        path.touch()
    os.utime(old, (1, 1))
    with atomic_path(tmp_path / "a.bin") as temporary:
        temporary.touch()
    assert not old.exists()
    assert new.exists()


def test_the_longest_name_that_a_disk_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 251 + ".png")
    write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole"
