"""Foreign graphs are tried where they can do no harm: without end, without measure, or deadly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_damaged_graphs import FRAME, convolution, made, saved
from tiny_graph import write_graph

from unblur.core.errors import BudgetError, InputError, MissingRuntimeError
from unblur.engines import rehearsal
from unblur.engines.catalogue import open_engine
from unblur.engines.rehearsal import rehearse
from unblur.graphs.file import GraphFile, read_graph
from unblur.networks.checkpoints import Checkpoint


def endless() -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["v"], ["w"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("v", TensorProto.FLOAT, FRAME)],
        [value("on", TensorProto.BOOL, []), value("w", TensorProto.FLOAT, FRAME)],
    )
    constants = [numpy_helper.from_array(np.array(2**62), "n"), numpy_helper.from_array(np.array(True), "yes")]
    return made([helper.make_node("Loop", ["n", "yes", "x"], ["y"], body=body)], constants=constants)


def measureless() -> onnx.ModelProto:
    """Four gigabytes of zeros, added up."""
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return made(nodes, constants=[numpy_helper.from_array(np.array([10**9]), "s")])


def test_a_graph_without_end_is_given_up(tmp_path: Path) -> None:
    graph = read_graph(saved(endless(), tmp_path / "g.onnx"))
    with pytest.raises(InputError, match=r"g\.onnx, which .* did not open and run in 3 s"):
        rehearse("onnxruntime", graph, 1, seconds=3)


def test_a_graph_that_takes_all_memory_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "BYTES", 500 * 2**20)
    graph = read_graph(saved(measureless(), tmp_path / "g.onnx"))
    with pytest.raises(InputError, match=r"took more than 0\.5 GiB for a frame of 16x24"):
        rehearse("onnxruntime", graph, 1)


def test_a_process_with_cuda_in_it_may_be_larger(tmp_path: Path) -> None:
    """Importing PyTorch's CUDA build and ONNX Runtime's took 501 MiB (2.11, 1.31), with no GPU to start."""
    graph = read_graph(write_graph(tmp_path / "g.onnx", (12, 18)))
    more = rehearsal.allowed_bytes("onnxruntime-cuda", graph) - rehearsal.allowed_bytes("onnxruntime", graph)
    assert more == rehearsal.BYTES_ON_A_GPU - rehearsal.BYTES > 2 * 2**30


def test_what_the_other_process_raises_is_raised_here(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Unheard", ["r"], ["y"], domain="foreign")]
    graph = read_graph(saved(made(nodes), tmp_path / "g.onnx"))
    with pytest.raises(InputError, match=r"ONNX Runtime cannot open .*g\.onnx .*Unheard"):
        rehearse("onnxruntime", graph, 1)


@pytest.mark.parametrize(
    ("told", "status", "error", "words"),
    [
        ("", -11, InputError, r"a\.onnx ended the process that opened it \(SIGSEGV: Fatal error\)"),
        ("half a lin", 1, InputError, r"\(status 1: Fatal error\)"),
        ('noise\n{"rehearsed": ["BudgetError", "too wide"]}\n', 0, BudgetError, "too wide"),
        ('{"rehearsed": ["MissingRuntimeError", "no driver"]}', 0, MissingRuntimeError, "no driver"),
    ],
)
def test_how_the_other_process_ended(told: str, status: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        rehearsal._raise_told("a.onnx", told, "line\nFatal error\n", status)


def test_only_foreign_graphs_are_tried_first(tmp_path: Path, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, GraphFile, int]] = []
    monkeypatch.setattr(rehearsal, "rehearse", lambda *what, gpu: tried.append(what))
    own = write_graph(tmp_path / "own.onnx", (16, 24), checkpoint=tiny.digest)
    foreign = write_graph(tmp_path / "foreign.onnx", (16, 24))
    for path in (own, foreign):
        open_engine("onnxruntime", tiny, path, 1).close()
    assert tried == [("onnxruntime", read_graph(foreign), 1)]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_sound_foreign_graph_is_run(tmp_path: Path, tiny: Checkpoint, engine: str) -> None:
    path = saved(convolution([1, 3, "H", "W"]), tmp_path / "g.onnx")
    with open_engine(engine, tiny, path, 1) as runner:
        assert runner.run(np.zeros([1, 3, 10, 12], np.float32)).shape == (1, 3, 10, 12)
