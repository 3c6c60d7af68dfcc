"""The X-ray's door with what the inspector lists, with measured times, and with the lints of a graph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from unblur.cli import app
from unblur.cli.show_engine import main
from unblur.engines.xray.kernels import KernelTensor

pytestmark = pytest.mark.tensorrt_rtx


@pytest.fixture(scope="module")
def engine(fixed_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("layers") / "tiny.engine"
    command = ["build", "--onnx", str(fixed_graph), "--fp16", "--target", "sm89", "--output", str(output)]
    assert app.main(command) == 0
    return output


def inspected(engine: Path) -> dict[str, Any]:
    """The engine's kernels as the inspector of TensorRT 11 would list them, constructed from its documented fields."""
    manifest = json.loads(engine.with_name("tiny.engine.json").read_text())

    def tensors(texts: list[str]) -> list[dict[str, Any]]:
        found = [KernelTensor.from_text(text) for text in texts]
        return [{"Name": t.name, "Dimensions": list(t.shape), "Format": "-", "Datatype": t.type} for t in found]

    layers = [
        {"Name": k["name"], "LayerType": k["kind"], "Inputs": tensors(k["inputs"]), "TacticName": "",
         "Constants": tensors(k["constants"]), "Outputs": tensors(k["outputs"]), "StreamId": 0,
         "Metadata": "".join(f"[ONNX Layer: {node}]" for node in k["nodes"])}
        for k in manifest["targets"]["sm89"]["each_kernel"]
    ]  # fmt: skip
    return {"Layers": layers, "I/O Tensors": [{"Name": "input"}, {"Name": "restored"}]}


def test_a_list_of_layers_gives_the_figures_of_its_engine(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    assert main([str(engine), "--json", str(figures), "--gpu", "RTX 4090"]) == 0
    (expected,) = json.loads(figures.read_text())["engines"]
    listed = engine.with_name("tiny.engine.layers.json")
    listed.write_text(json.dumps(inspected(engine)))
    assert main([str(listed), "--json", str(figures), "--gpu", "RTX 4090"]) == 0
    assert "activations are not listed" in capsys.readouterr().out
    (found,) = json.loads(figures.read_text())["engines"]
    differing = {key for key in expected if expected[key] != found[key]}
    assert differing == {"subject", "activation_bytes"}

    alone = tmp_path / "tiny.engine.layers.json"
    shutil.copy(listed, alone)
    assert main([str(alone)]) == 2
    assert "The graph the engine was built from" in capsys.readouterr().err
    other = inspected(engine)
    other["I/O Tensors"][0]["Name"] = "images"
    listed.write_text(json.dumps(other))
    assert main([str(listed)]) == 2
    assert "of an engine with the tensors images, restored" in capsys.readouterr().err


def test_measured_times_beside_the_bounds(engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile, figures = tmp_path / "profile.json", tmp_path / "figures.json"
    names = [layer["Name"] for layer in inspected(engine)["Layers"]]
    profile.write_text(json.dumps([{"count": 2}, *({"name": name, "timeMs": 0.02} for name in names)]))
    command = [str(engine), "--profile", str(profile), "--json", str(figures)]
    assert main([*command, "--gpu", "RTX 4090"]) == 0
    assert f"measured on RTX 4090: {0.01 * len(names):.3f} ms in {len(names)} kernels" in capsys.readouterr().out
    (measured,) = json.loads(figures.read_text())["measured"]
    assert len(measured["each_kernel"]) == len(names)
    for wrong, words in (([], "name that engine alone"), (["--gpu", "L4", "L40S"], "name that engine alone")):
        assert main([*command, *wrong]) == 2
        assert words in capsys.readouterr().err
    assert main([str(engine), "--gpu", "L4", "--profile", "absent.json"]) == 2
    assert "absent.json does not exist" in capsys.readouterr().err
    profile.write_text('[{"name": "other", "averageMs": 1}]')
    assert main([*command, "--gpu", "RTX 4090"]) == 2
    assert "another engine or build" in capsys.readouterr().err


def test_a_graph_is_held_to_both_products_before_it_is_compiled(
    fixed_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    assert main([str(fixed_graph), "--target", "sm89", "--json", str(figures)]) == 0
    printed = capsys.readouterr().out
    assert "lint for tensorrt-rtx sm89: nothing to object to\n" in printed
    assert "lint for tensorrt sm89: nothing to object to (rules from its documentation; nothing was built)" in printed
    assert json.loads(figures.read_text())["lints"] == [{"graph": fixed_graph.name, "findings": []}]

    model = onnx.load(fixed_graph)
    pointwise = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    pointwise.op_type, pointwise.domain = "Blur", "example"
    model.opset_import.append(onnx.helper.make_opsetid("example", 1))
    broken = tmp_path / "broken.onnx"
    onnx.save(model, broken)
    assert main([str(broken), "--target", "sm89"]) == 2
    printed = capsys.readouterr()
    assert f"{pointwise.name}: foreign operator, refused: example::Blur is no ONNX operator" in printed.out
    assert printed.err
