"""What holds of every family: a paper that enters the registry and `tiny.py` has all of this asked of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported_once import exported_once
from numpy.typing import NDArray
from tiny import TINY, Tiny

from unblur.building.cast_frames import CastFrames
from unblur.building.islands import MeasuredCast, cast_measured
from unblur.core.errors import InputError
from unblur.engines.catalogue import open_engine
from unblur.engines.runner import restore_frame
from unblur.engines.tensorrt.builder import compile_engine
from unblur.engines.xray.kernel_kinds import OTHER, OUTSIDE, block_of, kind_of
from unblur.export.graph import export_graph
from unblur.graphs.facts import read_facts
from unblur.graphs.rewrites.forms import OPENVINO, TENSORRT_RTX, Form
from unblur.graphs.rewrites.quantise import quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph
from unblur.images.contract import Frame
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import Checkpoint
from unblur.networks.family import Batch
from unblur.networks.registry import FAMILIES, build_network, preset_names, recognise

TOLERANCE = 3e-5
"""Graph against network, both in float32, in pixels of a range of 1. Observed: 1.2e-5 where an instance norm of a small
map multiplies what float32 rounds, elsewhere 5e-7 at most. `export_graph` holds each to its own float32 error."""

EIGHT_BITS_DB = {OPENVINO.name: 35.0, TENSORRT_RTX.name: 32.0}
"""Fidelity to float32 on random weights, which are harder on 8 bits than trained ones."""


def sizes(contract_multiple: int, smallest: int) -> list[tuple[int, int]]:
    """The smallest, and multiples by primes both ways."""
    return [(smallest, smallest), (5 * contract_multiple, 13 * contract_multiple), (17 * contract_multiple, smallest)]


@dataclass(frozen=True)
class Case:
    """A tiny network of a family and its graph of one size: primes times the multiple."""

    tiny: Tiny
    checkpoint: Checkpoint
    size: tuple[int, int]
    fixed: Path

    def frame(self, size: tuple[int, int] | None = None) -> Frame:
        height, width = size or self.size
        return np.tile(synthetic_pair(0, 128, 128, "heldout")[0], (4, 4, 1))[:height, :width].copy()

    def expected(self, frame: Frame) -> NDArray[np.float32]:
        contract = self.checkpoint.contract
        with torch.inference_mode():
            restored = self.checkpoint.network(torch.from_numpy(contract.encode(frame)))
        return restored.clamp(contract.low, contract.high).numpy()

    def difference(self, got: NDArray[np.float32], frame: Frame) -> float:
        contract = self.checkpoint.contract
        return float(np.abs(got - self.expected(frame)).max()) / (contract.high - contract.low)


@pytest.fixture(scope="module", params=TINY, ids=lambda tiny: tiny.record.label(tiny.spec))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    tiny: Tiny = request.param
    checkpoint = tiny.checkpoint(tmp_path_factory.mktemp("checkpoint"))
    multiple, smallest = checkpoint.contract.multiple, checkpoint.exact.smallest
    size = max(smallest, 7 * multiple), max(smallest, 11 * multiple)
    fixed = exported_once(checkpoint, tmp_path_factory, f"{checkpoint.name}.onnx", height=size[0], width=size[1])
    return Case(tiny, checkpoint, size, fixed)


@pytest.fixture(scope="module")
def dynamic(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its graph of every size."""
    return exported_once(case.checkpoint, tmp_path_factory, f"{case.checkpoint.name}-dynamic.onnx", dynamic=True)


def test_every_family_has_a_tiny_network() -> None:
    assert {tiny.family for tiny in TINY} == {family.name for family in FAMILIES}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_recognised_and_nothing_else_is(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert recognise(shapes).name == name  # which raises where a second family takes them too
    key = sorted(shapes)[len(shapes) // 2]
    with pytest.raises(InputError) as refusal:
        recognise({k: v for k, v in shapes.items() if k != key})
    assert f"Nearest is {name}," in str(refusal.value)
    assert f"{key} is missing" in str(refusal.value)


def test_a_spec_of_no_preset_has_a_name_of_its_own(case: Case) -> None:
    assert case.checkpoint.recognised.spec == case.tiny.spec
    assert case.checkpoint.name == case.tiny.spec.label()
    assert case.checkpoint.name not in preset_names()


def test_gates_are_layers_of_the_network(case: Case) -> None:
    gates = case.tiny.record.gates
    assert gates is not None
    layers = list(case.checkpoint.network.modules())
    assert all(any(gate is layer for layer in layers) for gate in gates(case.checkpoint.network).values())
    assert len(gates(case.checkpoint.network)) >= 1


def test_sizes_that_the_network_does_not_take_are_refused(case: Case, tmp_path: Path) -> None:
    multiple, smallest = case.checkpoint.contract.multiple, case.checkpoint.exact.smallest
    if multiple > 1:
        with pytest.raises(InputError, match="pad"):
            case.checkpoint.network(torch.zeros(1, 3, smallest + multiple, smallest + multiple + 1))
    with pytest.raises(InputError, match=f"from {smallest} on"):
        export_graph(case.checkpoint, tmp_path / "graph.onnx", height=smallest - 1, width=smallest)


def test_the_graph_of_one_size_is_the_network(case: Case) -> None:
    frame = case.frame()
    got = WrittenGraph(onnx.load(case.fixed)).output(case.checkpoint.contract.encode(frame))
    assert case.difference(got, frame) < TOLERANCE


def test_the_graph_of_every_size_is_the_network(case: Case, dynamic: Path) -> None:
    graph = WrittenGraph(onnx.load(dynamic))
    contract = case.checkpoint.contract
    for size in sizes(contract.multiple, case.checkpoint.exact.smallest):
        frame = case.frame(size)
        assert case.difference(graph.output(contract.encode(frame)), frame) < TOLERANCE, size


def test_graphs_have_few_nodes_and_none_that_looks_at_shapes(case: Case, dynamic: Path) -> None:
    fixed, every = (onnx.load(path).graph.node for path in (case.fixed, dynamic))
    assert len(fixed) <= case.tiny.nodes[0]
    assert len(every) <= case.tiny.nodes[1]
    assert not {"If", "Loop", "Scan", "GatherND", "Shape", "Range"} & {node.op_type for node in fixed}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_every_runner_gives_the_network(case: Case, engine: str) -> None:
    frame = case.frame()
    with open_engine(engine, case.checkpoint, case.fixed, threads=1) as runner:
        got = runner.run(runner.signature.contract.encode(frame))
    assert case.difference(got, frame) < TOLERANCE


def test_odd_frames_are_padded_and_cropped(case: Case) -> None:
    height, width = (side - (case.checkpoint.contract.multiple > 1) for side in case.size)
    contract, frame = case.checkpoint.contract, case.frame()[:height, :width]
    with open_engine("onnxruntime", case.checkpoint, case.fixed, threads=1) as runner:
        got = runner.signature.contract.decode(runner.run(runner.signature.contract.encode(frame)), height, width)
    expected = contract.decode(case.expected(frame), height, width)
    assert got.shape == (height, width, 3)
    assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_frames_below_the_smallest_side_are_restored_as_pytorch_does(case: Case, dynamic: Path, engine: str) -> None:
    smallest = case.checkpoint.exact.smallest
    frames = [case.frame((1, 1)), case.frame((3, 2)), case.frame((smallest - 1, 2 * smallest + 1))]
    with (
        open_engine("torch", case.checkpoint, None, threads=1) as reference,
        open_engine(engine, case.checkpoint, dynamic, threads=1) as runner,
    ):
        for frame in frames:
            assert np.abs(restore_frame(runner, frame).astype(int) - restore_frame(reference, frame)).max() <= 1


def in_fp16(case: Case) -> MeasuredCast:
    photograph = CastFrames((case.frame(),), "a photograph")
    return cast_measured(onnx.load(case.fixed), "fp16", [photograph], 60)


def test_fp16_holds(case: Case) -> None:
    """And nothing is widened beyond what the cast itself keeps in FP32."""
    assert in_fp16(case).islands == ()


@pytest.mark.parametrize("form", [OPENVINO, TENSORRT_RTX], ids=lambda form: form.name)
def test_eight_bits_hold(case: Case, form: Form) -> None:
    model, x = onnx.load(case.fixed), case.checkpoint.contract.encode(case.frame())
    run = WrittenGraph(model, tensors_to_measure(model, form)).run(x)
    ranges = Ranges("min-max", {name: Range(float(v.min()), float(v.max())) for name, v in run.items()})
    quantised = quantise(model, ranges, form)
    assert quantised.macs_share > 0.5
    error = WrittenGraph(quantised.model).output(x) - case.expected(case.frame())
    span = case.checkpoint.contract.high - case.checkpoint.contract.low
    assert -20 * np.log10(np.sqrt((error**2).mean()) / span) >= EIGHT_BITS_DB[form.name]


@pytest.mark.tensorrt_rtx
def test_tensorrt_for_rtx_builds_it_and_xray_sorts_its_kernels(case: Case) -> None:
    cast = in_fp16(case).cast.model
    xray = compile_engine(cast.SerializeToString(), ["sm89"]).xrays["sm89"]
    facts = read_facts(cast, *case.size)
    kinds = {kernel.name: kind_of(kernel, facts) for kernel in xray.kernels}
    assert OTHER not in kinds.values(), [name for name, kind in kinds.items() if kind == OTHER]
    blocks = [block_of(kernel, facts) for kernel in xray.kernels]
    assert len(set(blocks)) > 2
    assert blocks.count(OUTSIDE) < len(blocks) / 2, blocks  # pixels, and what stands between the blocks


def test_a_training_goes_on_bit_for_bit(case: Case) -> None:
    """One step, then the same second step by the recipe itself and by one that was told its state."""
    family = case.tiny.record
    settings = {**family.settings.model_validate(case.tiny.settings).model_dump(), "seed": 5, "amp": "off"}
    multiple, contract = case.checkpoint.contract.multiple, case.checkpoint.contract
    side = -(-case.checkpoint.exact.smallest // multiple) * multiple
    drawn = torch.Generator().manual_seed(0)
    pictures = torch.rand((2, 2, 3, side, side), generator=drawn) * (contract.high - contract.low) + contract.low
    network = family.build(case.tiny.spec).train()
    recipe = family.recipe(network, settings)
    recipe.initialise()

    def step(of: torch.nn.Module, by: object) -> None:
        losses = by.step(Batch(pictures[0], pictures[1], 1e-4, of))  # type: ignore[attr-defined]
        assert losses["loss"] > 0

    step(network, recipe)
    twin = family.build(case.tiny.spec).train()
    twin.load_state_dict(network.state_dict())
    other = family.recipe(twin, settings)
    other.load_state_dict(copy.deepcopy(recipe.state_dict()))
    step(network, recipe)
    step(twin, other)
    for key, value in network.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key
