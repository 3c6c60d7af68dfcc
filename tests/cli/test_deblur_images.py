"""`unblur deblur` as a person meets it: arguments in, pictures and exit codes out."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unblur.cli.deblur_images import arguments, main
from unblur.engines.catalogue import open_engine
from unblur.engines.runner import restore_frame
from unblur.images.files import read_picture
from unblur.networks import load_checkpoint, save_checkpoint
from unblur.networks.banet.network import BANet, BANetSpec


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of one narrow block that changes every picture visibly."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(BANet(BANetSpec(depth=1, stem_width=2, width=4, fuse_width=3)), path)
    return path


@pytest.fixture
def deblur(
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
):
    """Run the door with the torch engine; -> exit code, stdout, stderr."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))

    def run(*arguments: object) -> tuple[int, str, str]:
        flags = ["--checkpoint", checkpoint, "--engine", "torch", "--threads", "1"]
        given = [str(argument) for argument in arguments]
        code = main(given + [str(f) for f in flags if "--checkpoint" not in given])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


def draw(path: Path, height: int = 12, width: int = 17, seed: int = 0, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(mode)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    Image.fromarray(noise if channels > 1 else noise[..., 0], mode if channels == 4 else None).save(path)
    return path


def visible(folder: Path) -> dict[str, bytes]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_a_folder_is_mirrored_and_restored_as_the_reference_does(tmp_path: Path, checkpoint: Path, deblur) -> None:
    names = ["a.png", "b.jpg", "sub/c.webp", "sub/deep/d.tif", "sub/a.png", "a.jpg"]
    for seed, name in enumerate(names):
        draw(tmp_path / "in" / name, seed=seed)
    code, out, _ = deblur(tmp_path / "in", tmp_path / "out")
    assert code == 0
    assert out.startswith("6 deblurred, 0 finished before, 0 left out")
    assert sorted(visible(tmp_path / "out")) == sorted(names)
    with open_engine("torch", load_checkpoint(checkpoint), None, 1) as runner:
        for name in ["a.png", "sub/c.webp", "sub/deep/d.tif", "sub/a.png"]:
            given = read_picture(tmp_path / "in" / name).frame
            expected = restore_frame(runner, given)
            assert np.array_equal(read_picture(tmp_path / "out" / name).frame, expected)
            assert not np.array_equal(given, expected)


def test_a_second_run_opens_no_engine(tmp_path: Path, deblur, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "in/a.png")
    assert deblur(tmp_path / "in", tmp_path / "out")[0] == 0
    before = visible(tmp_path / "out"), (tmp_path / "out/a.png").stat().st_ino
    monkeypatch.setattr("unblur.networks.checkpoints.load_checkpoint", lambda _: pytest.fail("work done twice"))
    code, out, _ = deblur(tmp_path / "in", tmp_path / "out")
    assert (code, out.split(":")[0]) == (0, "0 deblurred, 1 finished before, 0 left out")
    assert before == (visible(tmp_path / "out"), (tmp_path / "out/a.png").stat().st_ino)


def test_another_checkpoint_redoes_the_output(tmp_path: Path, deblur) -> None:
    draw(tmp_path / "in/a.png")
    assert deblur(tmp_path / "in", tmp_path / "out")[0] == 0
    before = visible(tmp_path / "out")
    torch.manual_seed(4)
    save_checkpoint(BANet(BANetSpec(depth=1, stem_width=2, width=4, fuse_width=3)), tmp_path / "other.pth.safetensors")
    flags = ["--checkpoint", tmp_path / "other.pth.safetensors", "--engine", "torch", "--threads", 1]
    code, out, _ = deblur(tmp_path / "in", tmp_path / "out", *flags)
    assert (code, out[:11]) == (0, "1 deblurred")
    assert visible(tmp_path / "out") != before


@pytest.mark.parametrize("target", ["out.png", "new/folder", "there", "other.webp"])
def test_a_single_picture(tmp_path: Path, deblur, target: str) -> None:
    source = draw(tmp_path / "in.png")
    (tmp_path / "there").mkdir()
    code, out, _ = deblur(source, tmp_path / target)
    written = tmp_path / target if "." in target else tmp_path / target / "in.png"
    assert (code, out) == (0, f"1 deblurred, 0 finished before, 0 left out: {written}\n")
    assert read_picture(written).frame.shape == (12, 17, 3)
    assert not (tmp_path / ".unblur.json").exists(), "in the folder of a file that was named"
    assert deblur(source, tmp_path / target)[1].startswith("0 deblurred, 1 finished before")
    draw(written, seed=9)
    assert deblur(source, tmp_path / target)[0] == 2, "what is not ours any more is not replaced"


def test_a_single_picture_leaves_nothing_else_in_the_working_directory(
    tmp_path: Path, deblur, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = draw(tmp_path / "in" / "a.png")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for target in (".", tmp_path / "here", "b.png"):
        assert deblur(source, target)[0] == 0
        assert deblur(source, target)[1].startswith("0 deblurred, 1 finished before")
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "b.png"]


def test_the_result_as_json(tmp_path: Path, deblur) -> None:
    draw(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_bytes(b"no picture")
    code, out, err = deblur(tmp_path / "in", tmp_path / "out", "--json")
    (left_out,) = json.loads(out).pop("left_out")
    assert json.loads(out) == {"deblurred": 1, "with_warning": 1, "finished_before": 0, "engine": "torch",
                               "left_out": [left_out], "output": str(tmp_path / "out")}  # fmt: skip
    assert code == 2
    assert "b.png" in left_out
    assert "1 deblurred, 0 finished before, 1 left out" in err
    assert re.search(r"WARNING: a\.png: colour cast, .* at row 0, column 0\); look at ", err), "the weights are random"
    assert deblur(tmp_path / "in/a.png", tmp_path / "c.png", "--quiet")[2] == ""


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_grey_and_alpha_come_through(tmp_path: Path, deblur, mode: str) -> None:
    draw(tmp_path / "in/a.png", mode="RGBA" if mode == "RGBA" else "L")
    if mode == "LA":
        with Image.open(tmp_path / "in/a.png") as image:
            image.putalpha(77)
            image.save(tmp_path / "in/a.png")
    assert deblur(tmp_path / "in", tmp_path / "out")[0] == 0
    with Image.open(tmp_path / "out/a.png") as image:
        assert image.mode == mode
    given, got = read_picture(tmp_path / "in/a.png"), read_picture(tmp_path / "out/a.png")
    assert not np.array_equal(given.frame, got.frame)
    if mode != "L":
        assert np.array_equal(given.alpha, got.alpha)


def test_bad_pictures_among_good_ones(tmp_path: Path, deblur) -> None:
    for name in ("a.png", "z.png"):
        draw(tmp_path / "in" / name)
    (tmp_path / "in/phone.heic").touch()
    (tmp_path / "in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "in/empty.jpg").touch()
    Image.new("CMYK", (4, 4)).save(tmp_path / "in/ink.jpg")
    code, out, err = deblur(tmp_path / "in", tmp_path / "out")
    assert code == 2
    assert out.startswith("2 deblurred, 0 finished before, 4 left out")
    assert "4 of 6 pictures could not be deblurred" in err
    for name in ("broken.png", "empty.jpg", "ink.jpg", "phone.heic"):
        assert str(tmp_path / "in" / name) in err
    assert sorted(visible(tmp_path / "out")) == ["a.png", "z.png"]
    assert deblur(tmp_path / "in", tmp_path / "out")[0] == 2, "they are still bad the next time"


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 cut"])
def test_a_bad_picture_alone_writes_nothing(tmp_path: Path, deblur, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    code, _, err = deblur(tmp_path / "a.jpg", tmp_path / "out.jpg")
    assert code == 2
    assert str(tmp_path / "a.jpg") in err
    assert sorted(os.listdir(tmp_path)) == ["a.jpg"]  # noqa: PTH208


def test_the_commands_of_the_runbook_are_commands() -> None:
    text = (Path(__file__).parents[2] / "engines/README.md").read_text()
    commands = [shlex.split(line) for line in re.findall(r"\| `unblur deblur (.*?)` \|", text)]
    assert len(commands) >= 4
    for command in commands:
        given = arguments().parse_args(command)
        assert [str(given.source), str(given.output)] == [part.rstrip("/") for part in command[:2]]
    usage = re.search(r"python engines/deblur_images.py IN OUT(.*?)\n\n", text, re.DOTALL)
    assert usage is not None
    known = re.findall(r"--[a-z-]+", arguments().format_usage())
    assert sorted(re.findall(r"--[a-z-]+", usage[1])) == sorted(known)


def refused(run: tuple[int, str, str], *words: str) -> None:
    code, _, err = run
    assert code == 2
    for word in words:
        assert word in err


def test_empty_folder_missing_input_and_a_file_that_is_no_picture(tmp_path: Path, deblur) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/.hidden.png").touch()
    refused(deblur(tmp_path / "in", tmp_path / "out"), "holds no pictures", "check the name")
    refused(deblur(tmp_path / "nowhere", tmp_path / "out"), "does not exist", "give a picture or a folder")
    (tmp_path / "notes.txt").write_text("x")
    refused(deblur(tmp_path / "notes.txt", tmp_path / "out"), "not named as a picture")
    refused(deblur(draw(tmp_path / "a.png"), tmp_path / "a.gif"), "unblur writes .png", "change the suffix")
    refused(deblur(tmp_path / "in", tmp_path / "a.png"), "is a file; name a folder")
    assert not (tmp_path / "out").exists()


def test_wrong_flags_name_the_nearest(tmp_path: Path, deblur) -> None:
    refused(deblur(tmp_path, tmp_path / "o", "--overwrit"), "did you mean --overwrite?", "usage: unblur deblur")
    unknown = ("--checkpoint", "c.pth", "--engine", "tensorflow")
    refused(deblur(tmp_path, tmp_path / "o", *unknown), "tensorflow", "openvino")
    refused(deblur(tmp_path, tmp_path / "o", "--threads", "0"), "'0' is not a whole number of at least 1")
    refused(deblur(tmp_path), "required: OUT")


def test_a_precision_that_a_backend_has_not(tmp_path: Path, checkpoint: Path, deblur) -> None:
    flags = ["--checkpoint", checkpoint, "--engine", "onnxruntime", "--precision", "bf16"]
    refused(
        deblur(draw(tmp_path / "a.png"), tmp_path / "o", *flags),
        "onnxruntime has no bf16",
        "--engine torch or openvino",
    )


def test_bad_checkpoints(tmp_path: Path, deblur) -> None:
    source = draw(tmp_path / "a.png")
    for path, word in (
        (tmp_path / "no.pth", "cannot be opened"),
        (tmp_path, "is not a file"),
        (source, "not a readable"),
    ):
        refused(deblur(source, tmp_path / "out.png", "--checkpoint", path, "--engine", "torch"), str(path), word)
    assert not (tmp_path / "out.png").exists()


def test_without_a_checkpoint_the_bundled_one_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("unblur.pipeline.places.BUNDLED", Path("checkpoints/none.safetensors"))
    assert main([str(draw(tmp_path / "a.png")), str(tmp_path / "o")]) == 2
    err = capsys.readouterr().err
    assert "none.safetensors" in err
    assert "--checkpoint FILE" in err


@pytest.mark.skipif(os.name != "posix", reason="needs /proc or a file in the way")
def test_output_that_cannot_be_written(tmp_path: Path, deblur) -> None:
    source = draw(tmp_path / "in/a.png").parent
    (tmp_path / "file").touch()
    refused(deblur(source, tmp_path / "file/out"), str(tmp_path / "file/out"), "choose another")
    (tmp_path / "out/a.png").mkdir(parents=True)
    refused(deblur(source, tmp_path / "out"), str(tmp_path / "out/a.png"))


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, checkpoint: Path, deblur) -> None:
    """A real SIGINT to the script itself; SIGKILL at every step is in tests/pipeline/test_deblur_folder.py."""
    pictures, source, output = 120, tmp_path / "in", tmp_path / "out"
    for i in range(pictures):
        draw(source / f"{i:03}.png", 180, 180, seed=i)  # slow enough for the signal to come midway
    script = Path(__file__).parents[2] / "engines/deblur_images.py"
    flags = ["--checkpoint", checkpoint, "--engine", "torch", "--threads", "1"]
    command = [sys.executable, script, source, output, *flags]
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as child:
        deadline = time.monotonic() + 120
        while len(list(output.glob("0*.png"))) < 2:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    kept = visible(output)
    assert 2 <= len(kept) < pictures, "the signal came too late to show anything"
    assert child.returncode == 130
    assert "finished work is kept" in err
    assert "Traceback" not in err
    assert [p.name for p in output.iterdir() if ".part" in p.name] == []
    for beyond in sorted(source.iterdir())[len(kept) + 5 :]:  # five show as well as a hundred how it goes on
        beyond.unlink()
    code, out, err = deblur(source, output)
    left = min(5, pictures - len(kept))
    assert (code, out.split(":")[0]) == (0, f"{left} deblurred, {len(kept)} finished before, 0 left out")
    assert kept.items() <= visible(output).items()
    assert deblur(source, tmp_path / "whole")[0] == 0
    assert visible(output) == visible(tmp_path / "whole")


def test_graph_engines_give_the_same_pictures_and_share_one_export(
    tmp_path: Path, checkpoint: Path, deblur, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    monkeypatch.setenv("UNBLUR_ARTIFACTS", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "in/odd.png", 21, 34)
    draw(tmp_path / "in/small.png", 3, 5, seed=1)
    assert deblur(tmp_path / "in", tmp_path / "torch")[0] == 0
    exports = []
    for engine in ("onnxruntime", "openvino"):
        flags = ["--checkpoint", checkpoint, "--engine", engine, "--threads", 1]
        code, _, err = deblur(tmp_path / "in", tmp_path / engine, *flags)
        assert code == 0, err
        exports.append("graph: made once" in err)
        for name in ("odd.png", "small.png"):
            ours = read_picture(tmp_path / engine / name).frame.astype(int)
            reference = read_picture(tmp_path / "torch" / name).frame
            assert np.abs(ours - reference).max() <= 1  # a tie that float32 breaks the other way; observed 0
    assert exports == [True, False]
    assert len(list((tmp_path / "cache/onnx").glob("*.onnx"))) == 1
