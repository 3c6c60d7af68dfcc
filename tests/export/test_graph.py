"""Written graphs: what is in them, that they are the network, and that a wrong one never gets its name."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
import torch
from exported_once import exported_once
from tiny import TINY, Tiny

from unblur.core.errors import BudgetError, InputError
from unblur.engines.catalogue import open_engine
from unblur.engines.runner import restore_frame
from unblur.export.graph import export_graph
from unblur.graphs.file import read_graph
from unblur.graphs.sessions import open_onnxruntime
from unblur.images.contract import METADATA_KEY, PixelContract, parse_contract
from unblur.images.synthetic import synthetic_pair
from unblur.networks.banet.form import BANetForm
from unblur.networks.banet.network import STRIP_BINS
from unblur.networks.banet.strips import traced_axis
from unblur.networks.checkpoints import Checkpoint, load_checkpoint

TOLERANCE = 2e-6  # observed at most 3e-7 on these weights
SHALLOW: Tiny = next(tiny for tiny in TINY if tiny.family == "banet")


def run(graph: Path, tensor: np.ndarray) -> np.ndarray:
    session = open_onnxruntime("test").InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": tensor})[0]


def network_output(checkpoint: Checkpoint, tensor: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return checkpoint.network(torch.from_numpy(tensor)).clamp(-0.5, 0.5).numpy()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).random((1, 3, height, width), dtype=np.float32) - np.float32(0.5)


def operators(graph: Path) -> list[str]:
    return [node.op_type for node in onnx.load(graph).graph.node]


def test_fixed_graph_is_the_network_and_computes_nothing_from_shapes(fixed_graph: Path, tiny: Checkpoint) -> None:
    x = noise(48, 64)
    assert np.abs(run(fixed_graph, x) - network_output(tiny, x)).max() < TOLERANCE
    forbidden = {"If", "Loop", "Scan", "GatherND", "Shape", "Range", "Resize", "AveragePool", "Constant", "Where"}
    assert not forbidden & set(operators(fixed_graph))


@pytest.fixture(scope="module")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """`tiny` with one block, for what depends on the exporter and not on the network: half of it to trace."""
    return SHALLOW.checkpoint(tmp_path_factory.mktemp("shallow"))


def nodes_of_full_depth(one: Path, two: Path) -> float:
    """Nodes of BANet-18M: the same at every width, linear in the number of blocks."""
    return len(operators(one)) + 9 * (len(operators(two)) - len(operators(one)))


def test_banet_has_at_most_600_nodes(fixed_graph: Path, shallow: Checkpoint, tmp_path: Path) -> None:
    export_graph(shallow, tmp_path / "one.onnx", height=48, width=64, check=False)
    assert nodes_of_full_depth(tmp_path / "one.onnx", fixed_graph) <= 600


def test_dynamic_banet_has_at_most_800_nodes(
    dynamic_graph: Path, shallow: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = exported_once(shallow, tmp_path_factory, f"{shallow.name}-dynamic.onnx", dynamic=True)
    assert nodes_of_full_depth(one, dynamic_graph) <= 800


@pytest.mark.parametrize("size", [(16, 16), (18, 246), (410, 20), (92, 124), (26, 574), (202, 106)])
def test_dynamic_graph_is_exact_at_sizes_it_was_not_traced_at(
    dynamic_graph: Path, tiny: Checkpoint, size: tuple[int, int]
) -> None:
    x = noise(*size)
    assert np.abs(run(dynamic_graph, x) - network_output(tiny, x)).max() < TOLERANCE


def test_torchs_own_dynamic_export_of_adaptive_pooling_is_wrong_and_ours_is_not(tmp_path: Path) -> None:
    """What this exporter is for: torch bakes the traced kernel into the graph, without a word."""

    class Pool(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(x, (None, 1))

    sizes = {"x": {2: torch.export.Dim("h", min=2), 3: torch.export.Dim("w", min=2)}}
    torch.onnx.export(
        Pool().eval(), (torch.rand(1, 3, 24, 32),), tmp_path / "pool.onnx", dynamo=True, dynamic_shapes=sizes
    )
    x = np.random.default_rng(0).random((1, 3, 20, 48), dtype=np.float32)
    session = open_onnxruntime("test").InferenceSession(str(tmp_path / "pool.onnx"), providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: x})[0]
    expected = Pool()(torch.from_numpy(x)).numpy()
    assert got.shape != expected.shape or np.abs(got - expected).max() > 1e-3


def test_uint8_graph_gives_the_bytes_that_the_contract_gives(tiny: Checkpoint, tmp_path: Path) -> None:
    graph = export_graph(tiny, tmp_path / "bytes.onnx", height=32, width=48, pixels="uint8")
    frame = np.random.default_rng(5).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    contract = tiny.contract
    expected = contract.decode(network_output(tiny, contract.encode(frame)), 32, 48)
    assert graph.contract == contract.as_uint8()
    for backend in ("onnxruntime", "openvino"):
        with open_engine(backend, tiny, graph.path, threads=1) as runner:
            got = runner.run(frame[None])
        assert got.dtype == np.uint8
        different = np.abs(got[0].astype(int) - expected)
        assert different.max() <= 1  # float32 sums in another order round one byte in thousands the other way
        assert np.count_nonzero(different) <= frame.size // 1000


def test_metadata_says_what_is_inside(fixed_graph: Path, tiny: Checkpoint) -> None:
    model = onnx.load(fixed_graph)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert PixelContract.from_json(properties[METADATA_KEY]) == tiny.contract
    assert properties["unblur.network"] == "banet-2x8"
    assert properties["unblur.checkpoint_sha256"] == tiny.digest
    assert properties["unblur.channel_order"] == "bgr"
    assert properties["unblur.size"] == "48x64"
    assert properties["unblur.opset"] == "20"
    assert json.loads(properties["unblur.tools"])["torch"] == version("torch")
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert "BAM_1.fuse_conv_1/Conv" in names
    assert str(Path(__file__).parents[2]) not in str(model)  # no path of the machine it was made on


@pytest.mark.parametrize("opset", [19, 21])
def test_opsets(shallow: Checkpoint, tmp_path: Path, opset: int) -> None:
    graph = export_graph(shallow, tmp_path / "graph.onnx", height=16, width=16, opset=opset)
    assert onnx.load(graph.path).opset_import[0].version == opset


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"height": 33, "width": 40}, "Export 34x40"),
        ({"height": 14, "width": 40}, "from 16 on"),
        ({"height": 1_000_000, "width": 1_000_000}, "sides are at most 16384"),
        ({"height": 16_384, "width": 16_384}, "268435456 pixels"),
        ({"height": 32}, "--width"),
        ({}, "--dynamic"),
        ({"height": 32, "width": 32, "dynamic": True}, "leave out"),
        ({"height": 32, "width": 32, "opset": 12}, "19, 20, 21"),
    ],
)
def test_requests_that_cannot_be(tiny: Checkpoint, tmp_path: Path, options: dict[str, int], cure: str) -> None:
    with pytest.raises(InputError, match=cure):
        export_graph(tiny, tmp_path / "graph.onnx", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def with_exact(checkpoint: Checkpoint, **changes: Any) -> Checkpoint:
    """The checkpoint of a family that makes its graphs otherwise."""
    family = checkpoint.recognised.family
    other = replace(family, exact=replace(family.exact, **changes))
    return replace(checkpoint, recognised=replace(checkpoint.recognised, family=other))


def test_a_graph_of_other_weights_never_gets_its_name(shallow: Checkpoint, tmp_path: Path) -> None:
    class OneWeightOff(BANetForm):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self.de_layer2[0].weight.data[0, 0, 1, 1] += 1e-2

    output = tmp_path / "graph.onnx"
    output.write_bytes(b"what stood here before")
    with pytest.raises(BudgetError, match=r"worst at row \d+, column \d+, channel \d"):
        export_graph(with_exact(shallow, form=OneWeightOff), output, height=16, width=16)
    assert output.read_bytes() == b"what stood here before"
    assert list(tmp_path.iterdir()) == [output]


def test_a_large_graph_is_held_to_its_weights_and_its_probe(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unblur.export.checks.WHOLE_MACS", 0)
    graph = export_graph(tiny, tmp_path / "graph.onnx", height=16, width=32)
    assert {proof.subject for proof in graph.proofs} == {"probe", "algebra"}

    class LastBlockOff(BANetForm):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self.blocks[-1].final_conv.weight.data[0, 0, 0, 0] += 1e-3

    with pytest.raises(BudgetError, match="The algebra in torch is not the network"):
        export_graph(with_exact(tiny, form=LastBlockOff), tmp_path / "other.onnx", height=16, width=32)
    traced = iter([LastBlockOff])  # and then the right form, to which the graph is held
    with pytest.raises(BudgetError, match=r"BAM_2.final_conv.weight"):
        export_graph(
            with_exact(tiny, form=lambda *given: next(traced, BANetForm)(*given)),
            tmp_path / "other.onnx", height=16, width=32,
        )  # fmt: skip


def test_prove_sweeps_sizes_and_lengths_in_every_backend(
    shallow: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unblur.export.checks.LENGTHS", range(120, 124))
    swept = with_exact(shallow, sizes=((16, 246), (17, 31)))
    graph = export_graph(swept, tmp_path / "graph.onnx", dynamic=True, prove=True)
    whole = [proof for proof in graph.proofs if proof.subject == "graph"]
    backends = {"onnxruntime", "openvino"}
    sizes = {(16, 246), (17, 31)}
    assert {(p.backend, p.height, p.width) for p in whole} == {(b, *size) for b in backends for size in sizes}
    assert {proof.backend for proof in graph.proofs if proof.subject == "index"} == backends
    assert all(proof.worst <= proof.tolerance for proof in graph.proofs)


def test_prove_refuses_what_one_backend_computes_otherwise(
    shallow: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO turns a division by what it does not know into a product: right in ONNX Runtime, wrong there."""

    def in_floats(length: int, late: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        bins = torch.tensor([[n] for n in STRIP_BINS[1:]], dtype=torch.float32)
        position = torch.arange(length).to(torch.float32)
        index = torch.floor(position * (bins / (position[-1:] + 1)))
        return traced_axis(length, late)[0], list(torch.minimum(index, bins - 1).to(torch.int64).unbind())

    monkeypatch.setattr("unblur.networks.banet.form.traced_axis", in_floats)
    with pytest.raises(BudgetError, match="openvino computes other indices than PyTorch for a map of 25x8"):
        export_graph(shallow, tmp_path / "graph.onnx", dynamic=True, prove=True)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(
    shallow: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="disk is full"):
        export_graph(shallow, tmp_path / "graph.onnx", height=16, width=16)
    assert list(tmp_path.iterdir()) == []


def test_rgb_checkpoints_keep_their_order(shallow: Checkpoint, tmp_path: Path) -> None:
    rgb = replace(shallow, contract=replace(shallow.contract, channel_order="rgb"))
    graph = export_graph(rgb, tmp_path / "graph.onnx", height=16, width=16)
    x = noise(16, 16)
    assert graph.contract.channel_order == "rgb"
    assert np.abs(run(graph.path, x) - network_output(rgb, x)).max() < TOLERANCE


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_rgb01_graph_gives_the_pixels_that_the_contract_gives(
    tiny_path: Path, tmp_path: Path, order: Literal["bgr", "rgb"]
) -> None:
    tiny = load_checkpoint(tiny_path, order)
    graph = export_graph(tiny, tmp_path / "rgb01.onnx", height=32, width=48, pixels="rgb01")
    assert graph.contract == parse_contract("rgb01/2") == read_graph(graph.path).signature.contract
    assert graph.proofs
    frame = synthetic_pair(3, 32, 48, "heldout")[0]
    with open_engine("torch", tiny, None, 1) as reference, open_engine("onnxruntime", tiny, graph.path, 1) as runner:
        expected = reference.run(tiny.contract.encode(frame))
        got = runner.run(np.ascontiguousarray(frame.transpose(2, 0, 1)[None], np.float32) / np.float32(255))
        flipped = got[:, ::-1] if order == "bgr" else got
        assert np.abs((flipped - 0.5) - expected).max() < 2e-6  # float32 sums in another order; observed 3e-7
        assert (got.min() >= 0, got.max() <= 1) == (True, True)
        difference = restore_frame(runner, frame).astype(int) - restore_frame(reference, frame)
        assert np.abs(difference).max() <= 1
