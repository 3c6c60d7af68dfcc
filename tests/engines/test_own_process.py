"""An engine in a process of its own: the same results, the same errors, and an end that ends nothing else."""

from __future__ import annotations

import os
import pickle
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from crashing import open_crashing

from unblur.compare.measure.latency import stopwatch_of
from unblur.core.errors import ChangedError, CrashError, InputError
from unblur.engines.catalogue import open_engine
from unblur.engines.engine import Opening
from unblur.engines.own_process import PROCESS, OwnProcessRunner, open_in_own_process, within
from unblur.images.contract import Frame
from unblur.networks.checkpoints import Checkpoint


@pytest.fixture
def frame() -> Frame:
    return np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_it_gives_the_very_bytes_and_says_where_it_runs(tiny: Checkpoint, fixed_graph: Path, frame: Frame) -> None:
    tensor = tiny.contract.encode(frame)
    with (
        open_engine("onnxruntime", tiny, fixed_graph, 1) as here,
        open_engine("onnxruntime", tiny, fixed_graph, 1, hang_s=60) as there,
    ):
        assert isinstance(there, OwnProcessRunner)
        assert np.array_equal(there.run(tensor), here.run(tensor))
        assert there.signature == here.signature
        assert there.description == here.description | {PROCESS: "its own"}
        with pytest.raises(InputError, match="64"):
            there.run(tiny.contract.encode(frame[:, :32]))
    with pytest.raises(RuntimeError, match="closed"):
        there.run(tensor)
    there.close()


def test_what_an_engine_says_of_itself_is_of_now(tiny: Checkpoint, frame: Frame) -> None:
    """Whether a CUDA graph was captured or refused, a runner knows only once frames came."""
    with open_crashing(tiny.contract, "kill", 2) as runner:
        assert runner.description["mode"] == "2 to go"
        runner.run(tiny.contract.encode(frame))
        assert runner.description["mode"] == "1 to go"
        runner.run(tiny.contract.encode(frame))
    assert (runner.description["mode"], runner.description[PROCESS]) == ("0 to go", "its own"), "as it was closed"
    with open_crashing(tiny.contract, "kill", 0) as runner:
        with pytest.raises(CrashError):
            runner.run(tiny.contract.encode(frame))
        assert runner.description["mode"] == "0 to go", "what was known before it ended"


def test_a_call_is_timed_where_the_engine_is(tiny: Checkpoint, frame: Frame) -> None:
    """The clock is one for all processes: what was timed there lies between two looks at it here."""
    with open_crashing(tiny.contract, "", 100) as runner:
        call = within(runner, stopwatch_of, [frame])
        before = time.perf_counter_ns()
        lap = call(0)
        assert lap.whole is not None
        assert before < lap.started
        assert lap.elapsed < lap.whole
        assert lap.started + lap.elapsed < time.perf_counter_ns()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("segfault", r"was ended by SIGSEGV, \d\.\d s into a frame, in string_at \(__init__\.py:\d+\)"),
        ("kill", r"was ended by SIGKILL, as by a system short of memory, \d"),
        ("exit", r"ended by itself with code 7, "),
        ("raise", r"it raised ZeroDivisionError: a bug of its own"),
    ],
)
def test_how_it_ended_is_told_and_told_again(tiny: Checkpoint, frame: Frame, how: str, told: str) -> None:
    tensor = tiny.contract.encode(frame)
    with open_crashing(tiny.contract, how, 1) as runner:
        assert np.array_equal(runner.run(tensor), tensor)
        for _ in range(2):
            with pytest.raises(CrashError, match=told) as caught:
                runner.run(tensor)
            assert os.sep not in str(caught.value)  # reports name no path of a machine
        assert caught.value.exit_code == 4


def test_one_that_hangs_is_ended(tiny: Checkpoint) -> None:
    told = r"opening it did not end within 0\.5 s \(compare\.hang_seconds\); its process was ended"
    with pytest.raises(CrashError, match=told):
        open_crashing(tiny.contract, "hang", -1, hang_s=0.5)


def test_what_cannot_be_opened_leaves_no_process(tiny: Checkpoint) -> None:
    before = psutil.Process().children()
    with pytest.raises(CrashError, match=r"SIGABRT, .* into opening it"):
        open_crashing(tiny.contract, "abort", -1)
    assert psutil.Process().children() == before


def test_a_checkpoint_travels_as_its_file(tiny: Checkpoint, tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(tiny.path.read_bytes())
    other = replace(tiny, path=moved, contract=replace(tiny.contract, channel_order="rgb"))
    again = pickle.loads(pickle.dumps(other))
    assert (again.digest, again.contract) == (tiny.digest, other.contract)
    with pytest.raises(ChangedError, match="has changed"):
        pickle.loads(pickle.dumps(replace(other, digest="0" * 64)))


def test_what_no_other_process_knows_runs_in_this_one(tiny: Checkpoint, fixed_graph: Path) -> None:
    from unblur.engines.catalogue import find_engine
    from unblur.graphs.file import read_graph

    plain = find_engine("onnxruntime")
    engine = replace(plain, open=lambda opening: plain.open(opening))
    opening = Opening("onnxruntime", None, read_graph(fixed_graph), 1)
    with open_in_own_process(engine, False, opening, 60) as runner:
        assert PROCESS not in runner.description


def test_it_does_not_outlive_who_asks(tiny: Checkpoint) -> None:
    before = psutil.Process().children()  # such as a resource tracker's of a test before this one
    with open_crashing(tiny.contract, "", 1):
        (child,) = set(psutil.Process().children()) - set(before)
        assert not child.send_signal(signal.SIGINT)  # Ctrl-C in a terminal strikes both
        assert child.is_running()
    assert not psutil.pid_exists(child.pid)
