"""NVIDIA's own compiler takes every kind of graph that is exported, in every precision, and keeps within bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import onnx
import pytest
from tiny_banet import asymmetric

from unblur.building import engine
from unblur.building.engine import BuildOptions, build_engine
from unblur.engines.tensorrt.profiles import parse_profile
from unblur.export import graph as api
from unblur.networks.banet.network import BANetSpec
from unblur.networks.checkpoints import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.tensorrt_rtx

# One block each, narrow; `fuse_width` equal to `width` is what makes a BANet+.
BANET = BANetSpec(depth=1, stem_width=4, width=8, fuse_width=4)
PLUS = BANetSpec(depth=1, stem_width=4, width=12, fuse_width=12)


@pytest.mark.parametrize(
    ("spec", "kind", "pixels", "kernels", "megabytes"),
    [
        # Observed in FP32, FP16, BF16; bytes have a hundredth to spare, since builds of every size differ in them.
        pytest.param(BANET, "fixed", "float", (33, 36, 36), (1.722, 1.089, 1.022), id="fixed"),
        pytest.param(BANET, "fixed", "uint8", (33, 36, 36), (1.667, 1.070, 1.003), id="fixed-uint8"),
        pytest.param(PLUS, "fixed", "float", (35, 37, 36), (2.488, 1.447, 1.342), id="plus"),
        # Two kernels and 0.13 MB of it look up the lengths at which an index is late, whatever the network.
        pytest.param(PLUS, "dynamic", "uint8", (39, 41, 40), (2.565, 1.559, 1.454), id="plus-dynamic-uint8"),
    ],
)
def test_every_graph_compiles(
    spec: BANetSpec,
    kind: str,
    pixels: Literal["float", "uint8"],
    kernels: tuple[int, ...],
    megabytes: tuple[float, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api, "check_graph", lambda *arguments, **options: [])  # exactness is tested elsewhere
    monkeypatch.setattr(engine, "choose_frames", lambda *arguments: ())  # and so is what the cast costs
    save_checkpoint(asymmetric(spec), tmp_path / "c.safetensors")
    size: dict[str, Any] = {"dynamic": True} if kind == "dynamic" else {"height": 48, "width": 64}
    graph = api.export_graph(load_checkpoint(tmp_path / "c.safetensors"), tmp_path / "g.onnx", pixels=pixels, **size)
    profiles = (parse_profile("32x32:48x64:96x128"),) if kind == "dynamic" else ()
    convolutions = sum(node.op_type in ("Conv", "ConvTranspose") for node in onnx.load(graph.path).graph.node)
    seen: list[tuple[int, float]] = []
    for precision, runs_in in (("fp32", "Float"), ("fp16", "Half"), ("bf16", "BFloat16")):
        options = BuildOptions(precision, targets=("sm89",), profiles=profiles)  # type: ignore[arg-type]
        listed = build_engine(graph.path, tmp_path / "x.engine", options).manifest["targets"]["sm89"]
        # BF16 writes its transposed convolutions in phases, as convolutions.
        assert listed["convolutions_run_in"] == {runs_in: convolutions}
        seen.append((listed["kernels"], listed["bytes_moved"] / 1e6))
        _demand_whole_numbers(listed["each_kernel"], dynamic=kind == "dynamic")
    assert all(found <= bound for (found, _), bound in zip(seen, kernels, strict=True)), seen
    assert all(found <= bound * 1.01 for (_, found), bound in zip(seen, megabytes, strict=True)), seen


def _demand_whole_numbers(kernels: list[dict[str, Any]], dynamic: bool) -> None:
    """What is computed from the size alone is integers to the compiler too, but for the weights of the bins."""
    axes = [k for k in kernels if any(node.startswith(("rows/", "columns/")) for node in k["nodes"])]
    alone = [k for k in axes if not any(node.rpartition("/")[2].startswith("Gather") for node in k["nodes"])]
    assert len(alone) == (4 if dynamic else 0)
    whole = ("Int64", "Int32")
    assert all(tensor.split()[1] in whole for k in axes for tensor in k["constants"])
    for tensor in (tensor for k in alone for tensor in (*k["inputs"], *k["outputs"])):
        assert tensor.split()[1] in whole or tensor.startswith("div"), tensor
