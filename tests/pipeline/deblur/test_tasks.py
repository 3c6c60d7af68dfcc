"""Where outputs go, and every way in which an output could be an input."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unblur.core.errors import InputError
from unblur.pipeline.deblur.tasks import plan_tasks


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("a.png", "a.jpg", "sub/b.PNG"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name.encode())
    return tmp_path / "in"


def test_a_folder_is_mirrored_with_names_and_suffixes(tmp_path: Path, source: Path) -> None:
    plan = plan_tasks(source, tmp_path / "out")
    assert plan.record == tmp_path / "out/.unblur.json"
    assert [task.label for task in plan.tasks] == ["a.jpg", "a.png", "sub/b.PNG"]
    for task in plan.tasks:
        assert (task.source, task.output) == (source / task.label, tmp_path / "out" / task.label)


def test_what_is_only_read_becomes_a_png(tmp_path: Path, source: Path) -> None:
    (source / "b.gif").touch()
    labels = [task.label for task in plan_tasks(source, tmp_path / "out").tasks]
    assert labels == ["a.jpg", "a.png", "b.gif.png", "sub/b.PNG"]
    assert plan_tasks(source / "b.gif", tmp_path / "out").tasks[0].output == tmp_path / "out/b.gif.png"
    (source / "b.gif.png").touch()
    refused(source, tmp_path / "out", r"b\.gif and .*b\.gif\.png would both become")


def test_a_folder_of_nothing_that_is_read_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.heic").touch()
    refused(tmp_path / "in", tmp_path / "out", r"holds no pictures[\s\S]*a\.heic is HEIC")


def refused(source: Path, output: Path, words: str) -> None:
    before = sorted(source.rglob("*"))
    with pytest.raises(InputError, match=words):
        plan_tasks(source, output)
    assert sorted(source.rglob("*")) == before


def test_output_in_or_as_the_input_folder(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for output in (source, source / "out", source / "sub" / ".." / "deep/er", source / "sub"):
        refused(source, output, "inside the input")
    monkeypatch.chdir(source)
    refused(Path(), Path("out"), "inside the input")


def test_output_reached_through_a_linked_folder(tmp_path: Path, source: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    refused(source, tmp_path / "link", "inside the input")
    refused(tmp_path / "link", source / "out", "inside the input")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sub").symlink_to(source / "sub")
    refused(source, tmp_path / "out", "leads back into the input")


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_output_that_is_an_input_under_another_name(tmp_path: Path, source: Path, link) -> None:
    (tmp_path / "out").mkdir()
    link(tmp_path / "out/a.png", source / "a.png")
    refused(source, tmp_path / "out", "same file as the input")


def test_input_folder_below_the_output_folder(tmp_path: Path) -> None:
    """OUT/in/in/a.png would be written to OUT/in/a.png, back among the inputs."""
    (tmp_path / "in/in").mkdir(parents=True)
    (tmp_path / "in/in/a.png").touch()
    refused(tmp_path / "in", tmp_path, "leads back into the input")


def test_one_file_onto_itself(tmp_path: Path, source: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to(source / "a.png")
    for output in (source / "a.png", source, source / "sub/../a.png", link):
        refused(source / "a.png", output, "same file as the input")


def test_one_file_beside_itself_is_fine(source: Path) -> None:
    plan = plan_tasks(source / "a.png", source / "a-sharp.png")
    assert plan.tasks[0].output == source / "a-sharp.png"


@pytest.mark.parametrize(
    ("output", "expected"),
    [("new.png", "new.png"), ("new", "new/a.png"), ("v1.2", "v1.2/a.png"), ("there.png", "there.png/a.png")],
)
def test_one_file(tmp_path: Path, source: Path, output: str, expected: str) -> None:
    (tmp_path / "there.png").mkdir()
    assert plan_tasks(source / "a.png", tmp_path / output).tasks[0].output == tmp_path / expected


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", tmp_path / "out", "neither a file nor a folder")


def test_a_name_too_long_or_a_loop_is_a_sentence(tmp_path: Path, source: Path) -> None:
    with pytest.raises(InputError, match="choose another path"):
        plan_tasks(source, tmp_path / ("x" * 300))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError):
        plan_tasks(tmp_path / "loop", tmp_path / "out")
