"""Every engine on graphs of the project's own exporter agrees with the network itself."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import openvino
import pytest
import torch

from unblur.core.errors import InputError, MissingRuntimeError
from unblur.engines.catalogue import open_engine
from unblur.engines.openvino_runner import free_constants
from unblur.engines.runner import restore_frame
from unblur.images.contract import LONGEST_SIDE
from unblur.networks.checkpoints import Checkpoint

SIZE = (48, 64)
SIZES = (SIZE, (16, 34), (62, 26), (50, 50), (98, 98), (100, 200), (196, 410), (1080, 16), (16, 2160))
"""Halves of the last six: 25, 49, 50, 98, 100, 205, 540 and 1080, where the index of a strip is easily rounded away."""


def _frame(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_tensors(
    engine: str, kind: Literal["fixed", "dynamic"], tiny: Checkpoint, fixed_graph: Path, dynamic_graph: Path
) -> None:
    graph = fixed_graph if kind == "fixed" else dynamic_graph
    with open_engine(engine, tiny, graph, threads=1) as runner:
        for size in (SIZE,) if kind == "fixed" else SIZES:
            tensor = tiny.contract.encode(_frame(*size))
            with torch.inference_mode():
                expected = tiny.network(torch.from_numpy(tensor)).clamp(-0.5, 0.5).numpy()
            # Observed 7.8e-7, float32 sums in another order: a factor of 4 is left.
            assert np.abs(runner.run(tensor) - expected).max() < 3e-6


def test_bfloat16_puts_no_strip_elsewhere(tiny: Checkpoint, dynamic_graph: Path) -> None:
    try:
        runner = open_engine("openvino-bf16", tiny, dynamic_graph, threads=1)
    except MissingRuntimeError as error:
        pytest.skip(str(error))
    with runner:
        for width in (98, 196, 410, 544, 1080):
            tensor = tiny.contract.encode(_frame(64, width))
            with torch.inference_mode():
                expected = tiny.network(torch.from_numpy(tensor)).clamp(-0.5, 0.5).numpy()
            # Observed 0.010 to 0.0125; with the index computed in floats 0.035 to 0.067.
            assert np.abs(runner.run(tensor) - expected).max() < 0.02, width


def test_products_with_a_constant_follow_the_hint(fixed_graph: Path) -> None:
    core = openvino.Core()
    plain, freed = core.read_model(fixed_graph), core.read_model(fixed_graph)
    assert free_constants(freed) == 4, "two blocks, each pools twice"
    tensor = np.random.default_rng(0).random((1, 3, *SIZE), np.float32) - 0.5
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    results = [core.compile_model(model, "CPU", exact)(tensor)[0] for model in (plain, freed)]
    assert np.array_equal(*results)
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("a CPU without bf16 computes no product in it")
    for model, expected in ((plain, {"f32"}), (freed, {"bf16"})):
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
        infos = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
        products = [info for info in infos if info["layerType"].astype(str) == "MatMul"]
        assert {info["runtimePrecision"].astype(str) for info in products} == expected


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_odd_frames(engine: str, tiny: Checkpoint, dynamic_graph: Path) -> None:
    frame = _frame(37, 51)
    with (
        open_engine("torch", tiny, None, threads=1) as reference,
        open_engine(engine, tiny, dynamic_graph, 1) as runner,
    ):
        expected, restored = restore_frame(reference, frame), restore_frame(runner, frame)
    difference = np.abs(restored.astype(int) - expected.astype(int))
    # One level where a value falls on a half; observed in none of these 5661 bytes.
    assert difference.max() <= 1
    assert (difference > 0).sum() <= 5


def test_a_frame_longer_than_the_indices_are_proved_is_refused(tiny: Checkpoint, dynamic_graph: Path) -> None:
    with open_engine("openvino", tiny, dynamic_graph, threads=1) as runner:
        with pytest.raises(InputError, match="sides of up to 32768 pixels, got 16x32770"):
            runner.run(np.zeros((1, 3, 16, LONGEST_SIDE + 2), np.float32))
        runner.signature.check(np.zeros((1, 3, 16, LONGEST_SIDE), np.float32))


def test_a_graph_of_another_checkpoint(tiny: Checkpoint, fixed_graph: Path) -> None:
    """The exporter's metadata and the catalogue's check use one key."""
    with pytest.raises(InputError, match="made from another checkpoint"):
        open_engine("onnxruntime", replace(tiny, digest="0" * 64), fixed_graph, threads=1)
