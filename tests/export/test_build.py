"""Graph -> engine: three files or none, and an engine that is what was asked."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from tiny_banet import asymmetric

from unblur.core.artefacts import file_digest
from unblur.core.errors import BudgetError, InputError
from unblur.export import api, build
from unblur.export.build import build_engine, companions
from unblur.export.casting import CastGraph
from unblur.images.contract import PixelContract
from unblur.networks.banet import BANetSpec
from unblur.networks.checkpoints import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.tensorrt_rtx


def test_fp16_engine_graph_and_manifest(fixed_graph: Path, tmp_path: Path) -> None:
    built = build_engine(fixed_graph, tmp_path / "tiny.engine", fp16=True, targets=("sm89",))
    manifest = json.loads(built.manifest_path.read_text())
    assert manifest == built.manifest
    assert manifest["engine_sha256"] == file_digest(built.path)
    assert manifest["graph_sha256"] == file_digest(built.graph_path)
    assert manifest["source_graph_sha256"] == file_digest(fixed_graph)
    assert manifest["precision"] == "fp16"
    assert (manifest["height"], manifest["width"]) == (48, 64)
    assert PixelContract(**manifest["pixel_contract"]) == PixelContract()
    kernels = manifest["targets"]["sm89"]
    convolutions = sum(node.op_type in ("Conv", "ConvTranspose") for node in onnx.load(fixed_graph).graph.node)
    assert kernels["convolutions_run_in"] == {"Half": convolutions}
    assert kernels["kernels"] == len(kernels["each_kernel"])
    assert [kept["node"].rpartition("/")[2].partition("_")[0] for kept in manifest["kept_fp32"]] == ["Add", "Clip"]
    types = {value.name: value.type.tensor_type.elem_type for value in onnx.load(built.graph_path).graph.input}
    assert types == {"input": onnx.TensorProto.FLOAT}


def test_kernels_and_bytes_of_banet_stay_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BANet-18M at 256x256 in FP16, from its first one and two blocks: both figures are linear in the depth."""
    monkeypatch.setattr(api, "check_graph", lambda *arguments, **options: [])  # exactness is tested elsewhere
    kernels, moved = [], []
    for depth in (1, 2):
        path = tmp_path / f"{depth}.safetensors"
        save_checkpoint(asymmetric(BANetSpec(depth=depth)), path)
        graph = api.export_graph(load_checkpoint(path), tmp_path / f"{depth}.onnx", height=256, width=256)
        built = build_engine(graph.path, tmp_path / f"{depth}.engine", fp16=True, targets=("sm89",))
        kernels.append(built.manifest["targets"]["sm89"]["kernels"])
        moved.append(built.manifest["targets"]["sm89"]["bytes_moved"])
    assert kernels[0] + 9 * (kernels[1] - kernels[0]) <= 260  # observed 257; plain export 407
    assert moved[0] + 9 * (moved[1] - moved[0]) <= 1.345e9  # observed 1.338e9; plain export 2.07e9


def test_an_fp16_engine_that_runs_float_is_not_written(
    fixed_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "cast_to_fp16", lambda model: CastGraph(model, ()))  # a cast that casts nothing
    with pytest.raises(BudgetError, match="FP16 was asked for"):
        build_engine(fixed_graph, tmp_path / "tiny.engine", fp16=True, targets=("sm89",))
    assert list(tmp_path.iterdir()) == []


def test_a_dynamic_graph_is_refused_with_the_cure(dynamic_graph: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--height and --width"):
        build_engine(dynamic_graph, tmp_path / "tiny.engine")
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_dies_midway_leaves_no_manifest(
    fixed_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old manifest must not vouch for a new engine."""
    output = tmp_path / "tiny.engine"
    build_engine(fixed_graph, output, fp16=True)

    def dies(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        build_engine(fixed_graph, output)
    assert not companions(output)[1].exists()
