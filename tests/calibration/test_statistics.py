"""Statistics of a stream of frames: those of whole maps, whatever is killed in between, in fixed memory."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import psutil
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unblur.calibration.histogram import BINS, add_counts
from unblur.calibration.statistics import DECAY, TensorStatistics, measure_statistics
from unblur.core.console import Silent
from unblur.core.errors import InputError
from unblur.graphs.file import read_graph
from unblur.graphs.pieces import PiecewiseGraph
from unblur.images.contract import Frame
from unblur.images.synthetic import synthetic_pair

T = TypeVar("T")


def drawn(count: int, height: int = 48, width: int = 64) -> list[Frame]:
    return [synthetic_pair(seed, height, width)[0] for seed in range(count)]


def activations(graph: Path) -> list[str]:
    """Every float tensor that flows through the graph."""
    model = onnx.shape_inference.infer_shapes(onnx.load(graph))
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    weights = {tensor.name for tensor in model.graph.initializer}
    return [v.name for v in values if v.name not in weights and v.type.tensor_type.elem_type == TensorProto.FLOAT]


def whole(graph: Path, tensors: list[str], frame: Frame) -> dict[str, NDArray[np.float32]]:
    """All maps at once, from one unoptimised session on the uncut graph."""
    import onnxruntime

    model = onnx.load(graph)
    outputs = {value.name for value in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in tensors
        if name not in outputs and name != model.graph.input[0].name
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    encoded = read_graph(graph).signature.contract.encode(frame)
    asked = [name for name in tensors if name != model.graph.input[0].name]
    made = dict(zip(asked, session.run(asked, {model.graph.input[0].name: encoded}), strict=True))
    return made | {model.graph.input[0].name: encoded}


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_every_map_of_the_pieces_is_that_of_the_whole_graph(kind: str, fixed_graph: Path, dynamic_graph: Path) -> None:
    graph = fixed_graph if kind == "fixed" else dynamic_graph
    tensors = activations(graph)
    assert len(tensors) > 60
    frame = drawn(1)[0]
    expected = whole(graph, tensors, frame)
    seen = []
    for made in PiecewiseGraph(graph, tensors, threads=1).maps([frame]):
        for name, (values,) in made.items():
            seen.append(name)
            # Observed 3.2e-6: fused operations round otherwise. A wrong border is off by a good part of the range.
            worst = float(np.abs(values - expected[name]).max() / max(1, np.abs(expected[name]).max()))
            assert worst <= 3e-5, name
    assert sorted(seen) == sorted(tensors)


def test_no_map_outlives_its_last_reader(fixed_graph: Path) -> None:
    opened = PiecewiseGraph(fixed_graph, ["leaky_relu"], threads=1)
    made = {name for piece in opened._pieces for name in (*piece.inputs, *piece.outputs)}
    assert made == {name for piece in opened._pieces for name in piece.last}
    assert len(opened._pieces) == 1, "what comes after the last wanted tensor is not run"


HELD = """
import sys
from pathlib import Path
import psutil
from unblur.core.heap import maps_given_back
from unblur.graphs.pieces import PiecewiseGraph
from unblur.images.synthetic import synthetic_pair

graph, *tensors = sys.argv[1:]
with maps_given_back():
    walk = PiecewiseGraph(Path(graph), tensors, threads=1).maps([synthetic_pair(0, 1024, 1024)[0]])
    above = []
    for made in walk:
        made.clear()
        above.append(psutil.Process().memory_info().rss - walk.live_bytes)
print(max(above) - above[0])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to give freed maps back")
def test_a_number_that_is_read_later_keeps_no_map_alive(dynamic_graph: Path) -> None:
    """Each result of a run of ONNX Runtime keeps all results of that run: at 720p 630 MiB that nobody read."""
    command = [sys.executable, "-c", HELD, str(dynamic_graph), *activations(dynamic_graph)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(told.stdout) < 27e6  # 17 MB are one piece's work; 37 MB with what numbers kept


def test_statistics_are_those_of_the_values(fixed_graph: Path) -> None:
    frames, tensors = drawn(3), activations(fixed_graph)
    got = measure_statistics(fixed_graph, tensors, frames, histograms=True, threads=1)
    maps = [whole(fixed_graph, tensors, frame) for frame in frames]
    for name in tensors:
        lows, highs = ([float(getattr(m[name], end)()) for m in maps] for end in ("min", "max"))
        weights = [DECAY ** (len(frames) - 1 - k) for k in range(len(frames))]
        near = {"rel": 1e-4, "abs": 1e-5}
        assert got[name].low == pytest.approx(min(lows), **near)
        assert got[name].high == pytest.approx(max(highs), **near)
        assert got[name].mean_low == pytest.approx(np.average(lows, weights=weights), **near)
        assert got[name].mean_high == pytest.approx(np.average(highs, weights=weights), **near)
        counts = np.zeros(BINS, np.int64)
        for m in maps:
            add_counts(counts, m[name], got[name].peak)
        measured = got[name].counts
        assert measured is not None
        assert measured.sum() == counts.sum() == sum(m[name].size for m in maps)
        # A value that differs in its last bit may fall into the next bin.
        assert np.abs(np.cumsum(measured - counts)).max() <= 2e-3 * counts.sum() + 2


def test_one_pass_is_enough_without_histograms(fixed_graph: Path) -> None:
    class Counted(list[Frame]):
        passes = 0

        def __iter__(self) -> Iterator[Frame]:
            self.passes += 1
            return super().__iter__()

    frames = Counted(drawn(2))
    got = measure_statistics(fixed_graph, ["leaky_relu"], frames, histograms=False, threads=1)
    assert (frames.passes, got["leaky_relu"].counts) == (1, None)
    measure_statistics(fixed_graph, ["leaky_relu"], frames, histograms=True, threads=1)
    assert frames.passes == 2, "held, they are gone through once"
    measure_statistics(fixed_graph, ["leaky_relu"], frames, histograms=True, threads=1, held_pixels=0)
    assert frames.passes == 5, "looked at, then two passes"


def test_frames_of_several_sizes_and_odd_ones(dynamic_graph: Path) -> None:
    frames = [drawn(1, 33, 47)[0], drawn(1, 60, 40)[0]]
    got = measure_statistics(dynamic_graph, ["leaky_relu"], frames, histograms=True, threads=1)
    counts = got["leaky_relu"].counts
    assert counts is not None
    assert counts.sum() == (34 * 48 + 60 * 40) * 4


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_statistics import drawn
from unblur.calibration.statistics import measure_statistics

class Slow(list):
    def __iter__(self):
        for k, frame in enumerate(super().__iter__()):
            yield frame
            print(k, flush=True)

measure_statistics(Path(sys.argv[1]), ["leaky_relu", "input"], Slow(drawn(4)), histograms=True, threads=1,
                   held_pixels=0, state=Path(sys.argv[2]), save_every_s=0.0)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_in_either_pass_it_ends_the_same(fixed_graph: Path, tmp_path: Path) -> None:
    expected = measure_statistics(fixed_graph, ["leaky_relu", "input"], drawn(4), histograms=True, threads=1)
    state = tmp_path / "state"
    code = KILLED.format(path=[str(Path(__file__).parent)])
    for lines in (2, 3):  # in the first pass, then in the second
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(fixed_graph), str(state)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert state.with_suffix(".npz").exists()

    frames = drawn(4)
    done = np.load(state.with_suffix(".npz"))
    assert (int(done["number"]), int(done["done"])) >= (1, 2), "work was kept"
    got = measure_statistics(
        fixed_graph, ["leaky_relu", "input"], frames, histograms=True, threads=1, state=state, save_every_s=0.0,
        held_pixels=0,
    )  # fmt: skip
    for name, one in expected.items():
        other = got[name]
        assert (one.low, one.high, one.mean_low, one.mean_high) == (
            other.low, other.high, other.mean_low, other.mean_high,
        )  # fmt: skip
        assert np.array_equal(one.counts, other.counts)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("state*")), "a finished state is removed"


class StopError(Exception):
    """Instead of SIGKILL."""


def interrupt(graph: Path, state: Path, frames: list[Frame], after: int) -> None:
    class Stopped(list[Frame]):
        def __iter__(self) -> Iterator[Frame]:
            for k, frame in enumerate(super().__iter__()):
                if k == after:
                    raise StopError
                yield frame

    with pytest.raises(StopError):
        measure_statistics(
            graph, ["leaky_relu"], Stopped(frames), histograms=True, threads=1, state=state, save_every_s=0,
            held_pixels=0,
        )  # fmt: skip


def test_killed_side_by_side_it_goes_on_between_the_pieces(fixed_graph: Path, tmp_path: Path) -> None:
    class Watched(Silent):
        """Stops after so many pieces of the graph, and tells how many it saw."""

        def __init__(self, after: int = 1000) -> None:
            self.after, self.seen = after, 0

        def track(self, items: Iterable[T], text: str, total: int) -> Iterator[T]:
            for item in items:
                if self.seen == self.after:
                    raise StopError
                self.seen += 1
                yield item

    frames, tensors, state = drawn(3), activations(fixed_graph), tmp_path / "state"

    def measure(progress: Watched, frames: list[Frame] = frames) -> Mapping[str, TensorStatistics]:
        return measure_statistics(
            fixed_graph, tensors, frames, histograms=True, threads=1, progress=progress, state=state, save_every_s=0
        )

    expected = measure(whole := Watched())
    for after in (1, 20):
        with pytest.raises(StopError):
            measure(Watched(after))
        assert (tmp_path / "state.npz").exists()
    with pytest.raises(InputError, match="not those of the interrupted"):
        measure(Watched(), frames[::-1])
    got = measure(last := Watched())
    assert last.seen == whole.seen - 21, "each piece was run once"
    for name in tensors:
        assert np.array_equal(got[name].counts, expected[name].counts)  # type: ignore[arg-type]
        assert replace(got[name], counts=None) == replace(expected[name], counts=None)
    assert not list(tmp_path.glob("state*")), "a finished state is removed"


def test_a_state_of_something_else_is_refused(fixed_graph: Path, dynamic_graph: Path, tmp_path: Path) -> None:
    frames, state = drawn(3), tmp_path / "state"
    interrupt(fixed_graph, state, frames, 2)

    def again(graph: Path = fixed_graph, tensor: str = "leaky_relu", frames: list[Frame] = frames) -> None:
        measure_statistics(graph, [tensor], frames, histograms=True, threads=1, state=state, held_pixels=0)

    with pytest.raises(InputError, match="another graph or other tensors"):
        again(graph=dynamic_graph)
    with pytest.raises(InputError, match="another graph or other tensors"):
        again(tensor="input")
    with pytest.raises(InputError, match="not those of the interrupted"):
        again(frames=[frames[1], frames[0], frames[2]])
    file = state.with_suffix(".npz")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match="not the state of a calibration"):
        again()
    file.unlink()
    again()


def test_frames_that_change_between_the_passes_are_noticed(fixed_graph: Path) -> None:
    class Changing(list[Frame]):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                yield frame
                frame[0, 0, 0] ^= 1

    frames = Changing([f.copy() for f in drawn(2)])
    with pytest.raises(InputError, match="changed between the two passes"):
        measure_statistics(fixed_graph, ["input"], frames, histograms=True, threads=1, held_pixels=0)


def test_faults_name_their_place(fixed_graph: Path, tmp_path: Path) -> None:
    def measure(graph: Path = fixed_graph, tensor: str = "leaky_relu", frames: list[Frame] | None = None) -> None:
        measure_statistics(graph, [tensor], drawn(1) if frames is None else frames, histograms=False, threads=1)

    with pytest.raises(InputError, match="no frame"):
        measure(frames=[])
    with pytest.raises(InputError, match="did you mean 'leaky_relu'"):
        measure(tensor="leeky_relu")
    with pytest.raises(InputError, match="no float32 tensor"):
        measure(tensor="en_layer1.0.weight")
    with pytest.raises(InputError, match="built for 48x64"):
        measure(frames=drawn(1, 32, 64))

    model = onnx.load(fixed_graph)
    bias = next(t for t in model.graph.initializer if t.name == "en_layer1.0.bias")
    values = numpy_helper.to_array(bias).copy()
    values[0] = np.nan
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    broken = tmp_path / "broken.onnx"
    onnx.save(model, broken)
    with pytest.raises(InputError, match=r"'leaky_relu' holds NaN or infinity on calibration frame 1"):
        measure(graph=broken)


def test_memory_does_not_grow_with_the_frames(fixed_graph: Path) -> None:
    """Resident memory at the 20th frame of a pass is that at the 6th, within 3 MB (a kept frame would be 4 each)."""
    tensors, frame = activations(fixed_graph), drawn(1)[0]

    class Watched(list[Frame]):
        def __iter__(self) -> Iterator[Frame]:
            for k in range(20):
                if k in (5, 19):
                    resident.append(psutil.Process().memory_info().rss)
                yield frame

    resident: list[int] = []
    frames = Watched([frame] * 20)
    measure_statistics(fixed_graph, tensors, frames, histograms=True, threads=1, held_pixels=0)
    assert len(resident) == 4
    assert max(resident[1] - resident[0], resident[3] - resident[2]) < 3e6
