"""Files that are compared: what says of which checkpoint it is, and what is held against another graph instead."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from unblur.cli.compare_engines import main as compare
from unblur.core.errors import InputError
from unblur.graphs.file import read_graph
from unblur.graphs.metadata import CHECKPOINT_KEY
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.opening import graph_reference, make_candidate, make_file_candidate
from unblur.pipeline.store import Store


def changed(graph: Path, target: Path, *, digest: str | None, factor: float = 1.0) -> Path:
    """The graph with one weight multiplied, saying that it is of another checkpoint, or (None) of none."""
    model = onnx.load(graph)
    properties = {entry.key: entry.value for entry in model.metadata_props if entry.key != CHECKPOINT_KEY}
    helper.set_model_props(model, properties | ({CHECKPOINT_KEY: digest} if digest else {}))
    weight = next(t for t in model.graph.initializer if t.name == "de_layer2.0.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    onnx.save(model, target)
    return target


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    frame = synthetic_pair(1, 48, 64, "heldout")[0]
    write_picture(tmp_path / "frames" / "a.png", Picture(frame), frame)
    return tmp_path / "frames"


def test_a_graph_that_does_not_say_whose_it_is_is_refused_with_both_cures(
    tiny: Checkpoint, fixed_graph: Path, tmp_path: Path
) -> None:
    foreign = changed(fixed_graph, tmp_path / "foreign.onnx", digest=None)
    with pytest.raises(InputError, match=r"of which checkpoint it is.*unblur export.*--reference FILE\.onnx"):
        make_candidate(f"onnxruntime:{foreign}", Store(tmp_path), tiny, 1)
    make_candidate(f"onnxruntime:{fixed_graph}", Store(tmp_path), tiny, 1).open(None).close()


def test_engines_beside_a_named_reference(
    fixed_graph: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    changed(fixed_graph, tmp_path / "base.onnx", digest=None)
    changed(fixed_graph, tmp_path / "worse.onnx", digest=None, factor=1.1)
    shutil.copy(tmp_path / "base.onnx", tmp_path / "same.onnx")
    common = ["--frames", str(frames), "--no-latency", "--threads", "1", "--output", "report",
              "--set", "compare.hang_seconds=0"]  # fmt: skip
    engines = "onnxruntime:same.onnx,onnxruntime:worse.onnx,openvino"
    budget = ["--budget", "fidelity_db_min=100"]
    assert compare([*common, "--engines", engines, "--reference", "base.onnx", *budget]) == 3
    assert "onnxruntime:worse.onnx: fidelity_db_min is 100" in capsys.readouterr().err
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    rows = {engine["name"]: engine for engine in report["engines"]}
    assert list(rows) == [
        "onnxruntime:base.onnx", "onnxruntime:same.onnx", "onnxruntime:worse.onnx", "openvino:base.onnx",
    ]  # fmt: skip
    assert [row["is_reference"] for row in rows.values()] == [True, False, False, False]
    assert rows["onnxruntime:same.onnx"]["worst_fidelity_db"] == "Infinity"
    assert (report["network"], report["checkpoint"]) == ("base", "base.onnx")
    assert report["checkpoint_digest"] == read_graph(tmp_path / "base.onnx").digest
    told = (tmp_path / "report" / "report.md").read_text()
    assert "(onnxruntime:base.onnx, the float32 graph that was named)" in told
    assert "PyTorch" not in told

    assert compare([*common, "--engines", "onnxruntime:worse.onnx"]) == 2, "PyTorch is no reference for it"
    assert "--reference FILE.onnx" in capsys.readouterr().err
    for engine, words in (("torch-channels-last", "needs the checkpoint"), ("openvino-int8", "needs the checkpoint"),
                          ("torch:base.onnx", "runs the checkpoint itself")):  # fmt: skip
        assert compare([*common, "--engines", engine, "--reference", "base.onnx"]) == 2
        assert words in capsys.readouterr().err
    assert compare([*common, "--reference", "base.onnx", "--checkpoint", "x.safetensors"]) == 2
    assert "takes the place of --checkpoint" in capsys.readouterr().err


def test_a_reference_is_float32_and_of_the_same_checkpoint(fixed_graph: Path, tmp_path: Path) -> None:
    other = changed(fixed_graph, tmp_path / "other.onnx", digest="0" * 64)
    with pytest.raises(InputError, match=r"other\.onnx is of another checkpoint than the reference"):
        make_file_candidate(f"openvino:{other}", fixed_graph, 1)
    unsaid = changed(fixed_graph, tmp_path / "unsaid.onnx", digest=None)
    assert make_file_candidate(f"openvino:{unsaid}", fixed_graph, 1).name == "openvino:unsaid.onnx"
    narrow = onnx.load(fixed_graph)
    stored = narrow.graph.initializer[0]
    stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored).astype(np.float16), stored.name))
    onnx.save(narrow, tmp_path / "narrow.onnx")
    with pytest.raises(InputError, match=r"narrow\.onnx is f16.*name the float32 graph"):
        graph_reference(tmp_path / "narrow.onnx")
    assert graph_reference(fixed_graph).contract == read_graph(fixed_graph).signature.contract
