"""`unblur blame`: what it says of two files, and which two it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from tiny_banet import TINY, asymmetric

from unblur.building.engine import BuildOptions, build_engine
from unblur.cli.blame_engine import main
from unblur.graphs.metadata import NETWORK_KEY, add_properties
from unblur.graphs.rewrites.casting import cast_graph
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import save_checkpoint


@pytest.fixture
def wrong(fixed_graph: Path, tmp_path: Path) -> Path:
    """The graph with one weight of the fourth convolution off by a tenth of the largest."""
    model = onnx.load(fixed_graph)
    node = [node for node in model.graph.node if node.op_type == "Conv"][3]
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    values = numpy_helper.to_array(tensor).copy()
    values[0, 1, 0, 0] += 0.1 * np.abs(values).max()
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    return tmp_path / "wrong.onnx"


def test_a_wrong_weight_is_named_and_its_place_drawn(
    fixed_graph: Path, wrong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(2):
        frame = synthetic_pair(k, 60, 80, "heldout")[0]
        write_picture(tmp_path / f"frames/{k}.png", Picture(frame), frame)
    typed = [str(fixed_graph), str(wrong), "--frames", str(tmp_path / "frames"), "--output", str(tmp_path / "out")]
    assert main([*typed, "--threads", "1"]) == 0
    said = capsys.readouterr().out
    model = onnx.load(fixed_graph)
    node = [node for node in model.graph.node if node.op_type == "Conv"][3]
    assert "2 frame(s) of 48x64, from 2 in frames" in said
    assert f"they part at  {node.output[0]}: " in said
    assert f"layer         {node.name} (Conv) in BAM_1" in said
    assert f"because       {node.input[1]} differs at [0, 1, 0, 0]: " in said
    count = next(tensor.dims[0] for tensor in model.graph.initializer if tensor.name == node.input[1])
    assert f"channel       0 of {count} has 100 % of the error" in said
    assert "of 48x64" in said
    figures = json.loads((tmp_path / "out/blame.json").read_text())
    assert figures["parting"]["node"] == node.name
    assert figures["parting"]["given_db"] == "Infinity"
    with Image.open(tmp_path / "out/blame.png") as picture:
        assert picture.size == (64, 48)
        assert np.asarray(picture).max() == 255
    assert main([*typed, "--json", "-q"]) == 0  # over its own files
    assert json.loads(capsys.readouterr().out)["parting"] == figures["parting"]


def test_a_checkpoint_its_graph_and_a_cast_of_it_have_nothing_to_blame(
    tiny_path: Path, fixed_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = tmp_path / "fp16.onnx"
    onnx.save(cast_graph(onnx.load(fixed_graph), "fp16").model, half)
    for second, rounding in ((fixed_graph, "fp32"), (half, "fp16")):
        assert main([str(tiny_path), str(second), "--json", "-q"]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert (figures["parting"], figures["rounding"], figures["size"]) == (None, rounding, [48, 64])
        assert len(figures["tensors"]) > 50


def test_what_cannot_be_compared_is_refused(
    tiny_path: Path, fixed_graph: Path, dynamic_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(fixed_graph)
    add_properties(model, {NETWORK_KEY: "another"})
    onnx.save(model, tmp_path / "another.onnx")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/blame.json").write_text("{}")
    typed = [str(fixed_graph), str(dynamic_graph)]
    for arguments, words in (
        ([str(fixed_graph), str(tmp_path / "another.onnx")], "different networks part everywhere"),
        ([*typed, "--size", "64x64"], "the graph takes 48x64; leave --size out"),
        ([str(fixed_graph), str(tmp_path / "none.engine")], "does not exist; name a checkpoint, a graph"),
        ([*typed, "--output", str(tmp_path / "kept")], "is not what unblur writes there"),
        ([*typed, "--frames", str(tmp_path / "kept")], "no folder with pictures"),
    ):
        assert main([*arguments, "-q"]) == 2, arguments
        assert words in capsys.readouterr().err


def test_two_checkpoints_part_at_their_first_weight(
    tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = asymmetric(TINY)
    weight = next(value for value in network.parameters() if value.ndim == 4)
    weight.data[0, 0, 0, 0] += 0.5
    save_checkpoint(network, tmp_path / "other.safetensors")
    assert main([str(tiny_path), str(tmp_path / "other.safetensors"), "--size", "32x48", "-q"]) == 0
    said = capsys.readouterr().out
    assert "differs at [0, 0, 0, 0]" in said
    assert "a drawn frame of 32x48" in said
    assert "They say that they are of two checkpoints" in said


@pytest.mark.tensorrt_rtx
def test_an_engine_is_blamed_with_the_graph_beside_it(
    fixed_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = build_engine(fixed_graph, tmp_path / "tiny.engine", BuildOptions("fp16", targets=("sm89",)))
    assert main([str(fixed_graph), str(built.path), "-q"]) == 0
    said = capsys.readouterr().out
    assert "nothing to blame: no tensor parts more than rounding in fp16 explains" in said
    assert "tiny.engine itself " in said  # was run, or why not
    graph = tmp_path / "tiny.engine.onnx"
    graph.write_bytes(fixed_graph.read_bytes())
    assert main([str(fixed_graph), str(built.path), "-q"]) == 2
    assert "is not the graph that" in capsys.readouterr().err
