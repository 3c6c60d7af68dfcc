"""Resuming: killed at every step, changed behind its back, out of space; with a runner that needs no network."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from PIL import Image
from pixels import BGR

from unblur.core.console import SILENT
from unblur.core.errors import InputError
from unblur.core.overlap import THREAD_NAMES
from unblur.engines.named import name_engine
from unblur.images.files import Picture, decode_picture, read_picture, write_encoded
from unblur.images.signature import Signature
from unblur.pipeline.deblur.finished import NAME, Finished
from unblur.pipeline.deblur.folder import Opened, Outcome, deblur_pictures, task_key
from unblur.pipeline.deblur.frame_memory import FrameMemory
from unblur.pipeline.deblur.tasks import plan_tasks
from unblur.pipeline.dependence import Dependence, depends_on

posix = pytest.mark.skipif(os.name != "posix", reason="forks, links and limits as POSIX has them")


class Negative:
    """A runner that turns every byte b into 255 - b; NaN for a frame whose first red byte is 13."""

    signature = Signature(BGR)
    description: dict[str, str] = {}  # noqa: RUF012 - never written to
    opened = closed = 0

    def run(self, tensor: np.ndarray) -> np.ndarray:
        marked = round(float(tensor[0, 2, 0, 0] + 0.5) * 255) == 13
        return tensor * np.float32("nan") if marked else -tensor

    def close(self) -> None:
        Negative.closed += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Same(Negative):
    """A runner that changes nothing."""

    def run(self, tensor: np.ndarray) -> np.ndarray:
        return tensor


def opened() -> Negative:
    Negative.opened += 1
    return Negative()


@pytest.fixture(autouse=True)
def counters() -> None:
    Negative.opened = Negative.closed = 0


def draw(path: Path, seed: int = 0, first: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    frame[0, 0, 0] = first
    Image.fromarray(frame).save(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for i, name in enumerate(("a.png", "sub/b.png")):
        draw(tmp_path / "in" / name, seed=i)
    return tmp_path / "in"


def of(engine: str) -> Dependence:
    """What a picture depends on for being of this engine."""
    return depends_on([name_engine(engine)])


def go(
    source: Path,
    output: Path,
    checkpoint: str = "c" * 64,
    engine: str = "torch",
    opener: Callable[[], Negative] = opened,
    **options: Any,
) -> Outcome:
    plan = plan_tasks(source, output)
    return deblur_pictures(
        plan, lambda data: task_key(data, checkpoint, of(engine)), lambda: Opened(opener()), **options
    )


def visible(folder: Path) -> dict[str, bytes]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_done_then_skipped(tmp_path: Path, source: Path) -> None:
    assert go(source, tmp_path / "out") == Outcome(2, 0, ())
    frame, restored = (read_picture(root / "sub/b.png").frame for root in (source, tmp_path / "out"))
    assert np.array_equal(restored, 255 - frame)
    assert (Negative.opened, Negative.closed) == (1, 1)
    assert go(source, tmp_path / "out") == Outcome(0, 2, ())
    assert Negative.opened == 1, "nothing to do must open nothing"


@pytest.mark.parametrize("change", [{"checkpoint": "d" * 64}, {"engine": "openvino"}, {"engine": "torch-bf16"}])
def test_another_checkpoint_or_engine_redoes_everything(tmp_path: Path, source: Path, change: dict[str, str]) -> None:
    go(source, tmp_path / "out")
    assert go(source, tmp_path / "out", **change) == Outcome(2, 0, ())
    assert go(source, tmp_path / "out", **change) == Outcome(0, 2, ())


def test_a_changed_input_redoes_its_output_alone(tmp_path: Path, source: Path) -> None:
    go(source, tmp_path / "out")
    draw(source / "a.png", seed=9)
    draw(source / "new.png", seed=10)
    assert go(source, tmp_path / "out") == Outcome(2, 1, ())
    assert np.array_equal(read_picture(tmp_path / "out/a.png").frame, 255 - read_picture(source / "a.png").frame)


def test_the_key_depends_on_every_package_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    runtimes = ["onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt"]
    versions = dict.fromkeys(["unblur", "torch", "numpy", "onnx", "onnxscript", *runtimes], "1")
    for engine, own in {
        "torch": set(),
        "torch-bf16": set(),
        "onnxruntime": {"onnxruntime", "onnxruntime-gpu"},
        "openvino": {"openvino"},
        "openvino-bf16": {"openvino"},
    }.items():
        monkeypatch.setattr("unblur.pipeline.store.package_versions", lambda: versions)
        before, matters = task_key(b"x", "c", of(engine)), set()
        for name in versions:
            changed = {**versions, name: "2"}
            monkeypatch.setattr("unblur.pipeline.store.package_versions", lambda changed=changed: changed)
            if task_key(b"x", "c", of(engine)) != before:
                matters.add(name)
        assert matters == set(versions) - set(runtimes) | own, engine


def test_the_key_depends_on_input_checkpoint_engine_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [task_key(b"x", "c", of("torch")), task_key(b"y", "c", of("torch")), task_key(b"x", "d", of("torch")),
            task_key(b"x", "c", of("torch-bf16"))]  # fmt: skip
    monkeypatch.setattr("unblur.pipeline.store._source_digest", lambda: "other source")
    keys.append(task_key(b"x", "c", of("torch")))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("damage", ["truncated", "edited", "someone else's"])
def test_an_output_that_is_not_ours_is_refused_then_replaced_on_request(
    tmp_path: Path, source: Path, damage: str
) -> None:
    output = tmp_path / "out/a.png"
    if damage == "someone else's":
        draw(output, seed=77)
    else:
        go(source, tmp_path / "out")
        output.write_bytes(output.read_bytes()[:-9] if damage == "truncated" else output.read_bytes() + b"x")
    before = visible(tmp_path / "out")
    Negative.opened = 0
    with pytest.raises(InputError, match=r"a\.png exists and is not what unblur wrote.*--overwrite"):
        go(source, tmp_path / "out")
    assert visible(tmp_path / "out") == before
    assert Negative.opened == 0, "refused before any work"
    go(source, tmp_path / "out", overwrite=True)
    assert np.array_equal(read_picture(output).frame, 255 - read_picture(source / "a.png").frame)
    assert go(source, tmp_path / "out") == Outcome(0, 2, ())


def test_a_deleted_output_is_done_again(tmp_path: Path, source: Path) -> None:
    go(source, tmp_path / "out")
    (tmp_path / "out/a.png").unlink()
    assert go(source, tmp_path / "out") == Outcome(1, 1, ())


def test_outputs_without_their_record_are_foreign(tmp_path: Path, source: Path) -> None:
    go(source, tmp_path / "out")
    (tmp_path / "out" / NAME).unlink()
    with pytest.raises(InputError, match="--overwrite"):
        go(source, tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "[" * 99_999),
        '{"version": 1}',
        '{"version": 2, "outputs": {}}',
        '{"version": 1, "outputs": {"a.png": {"key": 1, "sha256": "", "replaces": null}}}',
    ],
)
def test_a_damaged_record_is_refused_with_the_cure(tmp_path: Path, source: Path, text: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NAME).write_text(text)
    with pytest.raises(InputError, match=r"unblur\.json is damaged.*delete it"):
        go(source, tmp_path / "out")


def test_a_picture_that_the_network_cannot_restore_is_left_out(tmp_path: Path, source: Path) -> None:
    draw(source / "cursed.png", first=13)
    outcome = go(source, tmp_path / "out")
    assert (outcome.done, len(outcome.failed)) == (2, 1)
    assert "cursed.png" in outcome.failed[0]
    assert "NaN" in outcome.failed[0]
    assert sorted(visible(tmp_path / "out")) == ["a.png", "sub/b.png"]


def test_only_bad_pictures_open_no_engine_and_write_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"no")
    assert len(go(tmp_path / "in", tmp_path / "out").failed) == 1
    assert Negative.opened == 0
    assert not (tmp_path / "out").exists()


def child(work: Callable[[], object]) -> int:
    """Run in a forked process; -> its wait status. Exit code 0: returned, 2: InputError, 9: anything else."""
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            work()
            code = 0
        except InputError as error:
            code = 2 if "choose" in str(error) or "Free some space" in str(error) else 9
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


@posix
@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_step_and_run_again(tmp_path: Path, source: Path, replacing: bool, after: bool) -> None:
    """SIGKILL just before or after each sync, rename and unlink, over nothing or over outputs of older weights."""
    go(source, tmp_path / "whole")
    expected = visible(tmp_path / "whole")
    for fatal in itertools.count(1):
        output = tmp_path / f"out{fatal}"
        old: dict[str, bytes] = {}
        if replacing:
            go(source, output, checkpoint="0" * 64, opener=Same)
            old = visible(output)
            assert not old.items() & expected.items()

        def work(output: Path = output, fatal: int = fatal) -> None:
            count = 0

            def deadly(step: Callable[..., Any]) -> Callable[..., Any]:
                def act(*arguments: Any, **options: Any) -> Any:
                    nonlocal count
                    count += 1
                    mine = count
                    if mine == fatal and not after:
                        os.kill(os.getpid(), signal.SIGKILL)
                    result = step(*arguments, **options)
                    if mine == fatal:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return result

                return act

            Path.replace, Path.unlink, os.fsync = (  # type: ignore[method-assign]
                deadly(Path.replace), deadly(Path.unlink), deadly(os.fsync))  # fmt: skip
            go(source, output)

        status = child(work)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert visible(output).items() <= old.items() | expected.items(), "a half file under a final name"
        assert go(source, output).failed == ()
        assert visible(output) == expected
        assert go(source, output) == Outcome(0, 2, ())
        if not killed:
            break
    assert fatal > 15, "two records, two promises, two outputs"


@posix
def test_a_picture_that_is_too_large_for_a_file_is_left_out(tmp_path: Path, source: Path) -> None:
    import resource

    draw(source / "b.png", seed=5)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)).save(source / "ab.png")

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        outcome = go(source, tmp_path / "out")
        assert (outcome.done, outcome.skipped) == (3, 0)
        assert "ab.png" in outcome.failed[0]

    assert child(work) == 0
    assert sorted(visible(tmp_path / "out")) == ["a.png", "b.png", "sub/b.png"]
    assert [p for p in (tmp_path / "out").rglob("*") if ".part" in p.name] == []
    assert go(source, tmp_path / "out") == Outcome(1, 3, ())


@posix
def test_names_of_every_length_are_written(tmp_path: Path, source: Path) -> None:
    for length in (200, 244, 245, 255):
        draw(source / f"{'n' * (length - 4)}.png")
    assert go(source, tmp_path / "out") == Outcome(6, 0, ())
    draw(source / "long" / f"{'n' * 251}.gif")  # its output would have four bytes too many
    outcome = go(source, tmp_path / "out")
    assert (outcome.done, outcome.skipped, len(outcome.failed)) == (0, 6, 1)
    assert "n.gif.png" in outcome.failed[0]


def test_a_write_that_fails_leaves_one_picture_out(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = write_encoded

    def fail_once(path: Path, data: bytes) -> None:
        if path.name == "a.png":
            raise InputError(f"Cannot write {path}") from OSError(errno.EACCES, "no")
        write(path, data)

    monkeypatch.setattr("unblur.pipeline.deblur.folder.write_encoded", fail_once)
    outcome = go(source, tmp_path / "out")
    assert (outcome.done, len(outcome.failed)) == (1, 1)
    assert sorted(visible(tmp_path / "out")) == ["sub/b.png"]


@pytest.mark.parametrize("where", ["reading", "restoring"])
def test_a_picture_that_memory_does_not_hold_is_left_out(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    draw(source / "0.png", first=17)

    class Small(Negative):
        def run(self, tensor: np.ndarray) -> np.ndarray:
            if where == "restoring" and round(float(tensor[0, 2, 0, 0] + 0.5) * 255) == 17:
                raise MemoryError
            return super().run(tensor)

    def decode(data: bytes, path: Path) -> Picture:
        picture = decode_picture(data, path)
        if where == "reading" and picture.frame[0, 0, 0] == 17:
            raise InputError(f"{path} does not fit into memory")
        return picture

    monkeypatch.setattr("unblur.pipeline.deblur.folder.decode_picture", decode)
    outcome = go(source, tmp_path / "out", opener=Small)
    assert (outcome.done, len(outcome.failed)) == (2, 1)
    assert "0.png" in outcome.failed[0]
    assert "memory" in outcome.failed[0]


def test_what_will_not_fit_is_refused_before_it_is_tried_and_said_before_the_work(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (90, 60)).save(source / "large.png")
    monkeypatch.setattr("unblur.pipeline.deblur.frame_memory.available_bytes", lambda: 9_000_000)
    monkeypatch.setattr("unblur.pipeline.deblur.frame_memory.resident_bytes", lambda: 5)
    said: list[str] = []
    monkeypatch.setattr(SILENT, "note", said.append, raising=False)
    plan, memory = plan_tasks(source, tmp_path / "out"), FrameMemory("openvino", 2000.0, 5)

    class Careful(Negative):
        def run(self, tensor: np.ndarray) -> np.ndarray:
            assert tensor.shape[2] < 60, "tried"
            return super().run(tensor)

    outcome = deblur_pictures(plan, lambda data: task_key(data, "c", of("openvino")), lambda: Opened(Careful(), memory),
                              progress=SILENT)  # fmt: skip
    assert (outcome.done, len(outcome.failed)) == (2, 1)
    assert "large.png: A picture of 60x90 takes about 0.2 GB of memory with openvino" in outcome.failed[0]
    assert any("about 0.2 GB for the largest picture (60x90)" in line for line in said)


def test_hidden_pixels_do_not_change_visible_ones_and_come_back(tmp_path: Path) -> None:
    class Spread(Negative):
        """A runner that averages with the pixel to the left."""

        def run(self, tensor: np.ndarray) -> np.ndarray:
            return (tensor + np.roll(tensor, 1, axis=3)) / 2

    draw_alpha = np.random.default_rng(4)
    rgba = draw_alpha.integers(1, 256, (8, 10, 4), np.uint8)
    rgba[:, 4:6, 3] = 0
    for name in ("black", "noise"):
        if name == "noise":
            rgba[:, 4:6, :3] = draw_alpha.integers(0, 256, (8, 2, 3), np.uint8)
        else:
            rgba[:, 4:6, :3] = 0
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(rgba).save(tmp_path / f"in/{name}.png")
    go(tmp_path / "in", tmp_path / "out", opener=Spread)
    inputs, outputs = ({name: read_picture(tmp_path / side / f"{name}.png") for name in ("black", "noise")}
                       for side in ("in", "out"))  # fmt: skip
    seen = rgba[..., 3] > 0
    assert np.array_equal(outputs["black"].frame[seen], outputs["noise"].frame[seen])
    for name in ("black", "noise"):
        assert np.array_equal(outputs[name].frame[~seen], inputs[name].frame[~seen])
        assert np.array_equal(outputs[name].alpha, inputs[name].alpha)
        assert not np.array_equal(outputs[name].frame[seen], inputs[name].frame[seen])


def test_what_the_plan_passed_over_is_left_out_by_name(tmp_path: Path, source: Path) -> None:
    (source / "phone.heic").touch()
    (tmp_path / "elsewhere").mkdir()
    (source / "link").symlink_to(tmp_path / "elsewhere")
    outcome = go(source, tmp_path / "out")
    assert (outcome.done, len(outcome.failed)) == (2, 2)
    assert any("phone.heic is HEIC" in told for told in outcome.failed)
    assert len(go(source, tmp_path / "out").failed) == 2, "also when nothing is left to do"


def test_many_pictures_cost_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the whole record for each of them."""
    written: list[int] = []
    write = Path.write_bytes

    def count(self: Path, data: bytes) -> int:
        if b"made_by" in data:
            written.append(len(data))
        return write(self, data)

    for i in range(30):
        draw(tmp_path / f"in/{i}.png", seed=i)
    monkeypatch.setattr(Path, "write_bytes", count)
    go(tmp_path / "in", tmp_path / "out")
    assert len(written) == 2, "once empty, once whole"
    assert len(json.loads((tmp_path / "out" / NAME).read_text())["outputs"]) == 30
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")) == [NAME]


@posix
def test_a_journal_that_a_kill_left_is_read_up_to_its_damage(tmp_path: Path, source: Path) -> None:
    go(source, tmp_path / "whole")
    output = tmp_path / "out"

    def work() -> None:
        Finished.close = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        go(source, output)

    assert os.WIFSIGNALED(child(work))
    journal = (output / NAME).with_suffix(".jsonl")
    assert len(journal.read_bytes().splitlines()) == 2
    journal.write_bytes(journal.read_bytes() + b'[]\n\xff\n{"output": "z.png", "key": "cut sho')
    assert go(source, output) == Outcome(0, 2, ())
    draw(source / "new.png", seed=8)
    assert go(source, output) == Outcome(1, 2, ())
    assert not journal.exists()


@posix
@pytest.mark.parametrize("exists", [False, True])
def test_two_runs_into_one_folder_lose_nothing(tmp_path: Path, exists: bool) -> None:
    """Of other sources: their records join. Each waits for the other; five times, as the fault showed each time."""
    for side in ("left", "right"):
        for i in range(6):
            draw(tmp_path / side / f"{side}{i}.png", seed=i)
    for attempt in range(5):
        output = tmp_path / f"out{attempt}"
        if exists:
            output.mkdir()
        children = []
        for side in ("left", "right"):
            if (pid := os.fork()) == 0:
                code = 9
                try:
                    code = 0 if go(tmp_path / side, output) == Outcome(6, 0, ()) else 1
                finally:
                    os._exit(code)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
        for side in ("left", "right"):
            assert go(tmp_path / side, output) == Outcome(0, 6, ())


@posix
def test_two_runs_of_one_source_share_the_work(tmp_path: Path, source: Path) -> None:
    pid = os.fork()
    outcome, code = None, 9
    try:
        outcome = go(source, tmp_path / "out")
        code = 0 if outcome.failed == () and outcome.done + outcome.skipped == 2 else 1
    finally:
        if pid == 0:
            os._exit(code)
    assert (code, os.waitpid(pid, 0)[1]) == (0, 0)
    assert go(source, tmp_path / "out") == Outcome(0, 2, ())


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "choose a folder")])
def test_disk_full_keeps_what_is_finished(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.parent.name == "sub":
            raise OSError(number, os.strerror(number), str(self))
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match=words):
            go(source, tmp_path / "out")
    assert Negative.closed == 1
    assert sorted(visible(tmp_path / "out")) == ["a.png"]
    assert go(source, tmp_path / "out") == Outcome(1, 1, ())


def test_an_output_folder_that_cannot_be_written_shows_before_the_engine_opens(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another"):
        go(source, tmp_path / "file/out")
    assert Negative.opened == 0


def test_ctrl_c_closes_the_engine(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Negative, tensor: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(Negative, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        go(source, tmp_path / "out")
    assert Negative.closed == 1
    assert visible(tmp_path / "out") == {}


def test_pictures_are_read_and_written_beside_the_engine(tmp_path: Path) -> None:
    """The engine runs the first picture until the next has been read: one after the other it would wait
    forever."""
    for i in range(4):
        draw(tmp_path / "in" / f"{i}.png", seed=i)
    reads: list[str] = []
    second_read = threading.Event()
    runs: list[str] = []

    class Waiting(Same):
        def run(self, tensor: np.ndarray) -> np.ndarray:
            runs.append(threading.current_thread().name)
            if len(runs) == 1:
                assert second_read.wait(30)
            return tensor

    def key(data: bytes) -> str:
        reads.append(threading.current_thread().name)
        if len(reads) == 4 + 2:  # all were read once to see what is finished
            second_read.set()
        return "key"

    outcome = deblur_pictures(plan_tasks(tmp_path / "in", tmp_path / "out"), key, lambda: Opened(Waiting()))
    assert outcome == Outcome(4, 0, ())
    assert set(runs) == {threading.main_thread().name}
    assert all(name.startswith(THREAD_NAMES) for name in reads[4:])
    assert not [one for one in threading.enumerate() if one.name.startswith(THREAD_NAMES)]
    for i in range(4):
        assert np.array_equal(
            read_picture(tmp_path / "out" / f"{i}.png").frame, read_picture(tmp_path / "in" / f"{i}.png").frame
        )


def test_what_was_restored_before_ctrl_c_is_written(tmp_path: Path) -> None:
    for i in range(4):
        draw(tmp_path / "in" / f"{i}.png", seed=i)

    class Third(Same):
        count = 0

        def run(self, tensor: np.ndarray) -> np.ndarray:
            Third.count += 1
            if Third.count == 3:
                raise KeyboardInterrupt
            return tensor

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "in", tmp_path / "out", opener=Third)
    assert list(visible(tmp_path / "out")) == ["0.png", "1.png"]
    assert go(tmp_path / "in", tmp_path / "out", opener=Same) == Outcome(2, 2, ())


def test_the_record_is_small_and_plain(tmp_path: Path, source: Path) -> None:
    go(source, tmp_path / "out")
    record = json.loads((tmp_path / "out" / NAME).read_text())
    assert sorted(record["outputs"]) == ["a.png", "sub/b.png"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [NAME, "a.png", "sub"]
