"""Graph -> engine: three files or none, and an engine that is what was asked."""

from __future__ import annotations

import errno
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pixels import BGR
from quantised_graph import quantised
from tiny_banet import asymmetric

from unblur.building import cast_frames, engine
from unblur.building import precision as precision_room
from unblur.building.engine import BuildOptions, build_engine, rebuild_engine
from unblur.building.islands import Judged, MeasuredCast
from unblur.core.artefacts import file_digest
from unblur.core.errors import BudgetError, InputError
from unblur.engines.tensorrt.manifest import check_files, companions, read_manifest
from unblur.engines.tensorrt.profiles import parse_profile, profiles_from_json
from unblur.export import graph as api
from unblur.graphs.rewrites.casting import CastGraph
from unblur.images.contract import METADATA_KEY, PixelContract
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.networks.banet.network import BANetSpec
from unblur.networks.checkpoints import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.tensorrt_rtx


def test_fp16_engine_graph_and_manifest(fixed_graph: Path, tmp_path: Path) -> None:
    built = build_engine(fixed_graph, tmp_path / "tiny.engine", BuildOptions("fp16", targets=("sm89",)))
    manifest = json.loads(built.manifest_path.read_text())
    assert manifest == built.manifest
    assert manifest["engine_sha256"] == file_digest(built.path)
    assert manifest["graph_sha256"] == file_digest(built.graph_path)
    assert manifest["source_graph_sha256"] == file_digest(fixed_graph)
    assert manifest["precision"] == "fp16"
    assert (manifest["height"], manifest["width"]) == (48, 64)
    assert PixelContract(**manifest["pixel_contract"]) == BGR
    kernels = manifest["targets"]["sm89"]
    convolutions = sum(node.op_type in ("Conv", "ConvTranspose") for node in onnx.load(fixed_graph).graph.node)
    assert kernels["convolutions_run_in"] == {"Half": convolutions}
    assert kernels["kernels"] == len(kernels["each_kernel"])
    assert [kept["node"].rpartition("/")[2].partition("_")[0] for kept in manifest["kept_fp32"]] == ["Add", "Clip"]
    types = {value.name: value.type.tensor_type.elem_type for value in onnx.load(built.graph_path).graph.input}
    assert types == {"input": onnx.TensorProto.FLOAT}
    assert [one["on"] for one in manifest["cast"]["judged_on"]] == ["1 frame of 48x64, drawn"]
    assert 60 < manifest["cast"]["fidelity_db"] < 100  # tests/building/test_islands.py shows that it is measured
    assert manifest["cast"]["islands"] == []


def test_kernels_and_bytes_of_banet_stay_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BANet-18M at 256x256 in FP16, from its first one and two blocks: both figures are linear in the depth."""
    monkeypatch.setattr(api, "check_graph", lambda *arguments, **options: [])  # exactness is tested elsewhere
    monkeypatch.setattr(engine, "choose_frames", lambda *arguments: ())  # and so is what the cast costs
    kernels, moved = [], []
    for depth in (1, 2):
        path = tmp_path / f"{depth}.safetensors"
        save_checkpoint(asymmetric(BANetSpec(depth=depth)), path)
        graph = api.export_graph(load_checkpoint(path), tmp_path / f"{depth}.onnx", height=256, width=256)
        built = build_engine(graph.path, tmp_path / f"{depth}.engine", BuildOptions("fp16", targets=("sm89",)))
        kernels.append(built.manifest["targets"]["sm89"]["kernels"])
        moved.append(built.manifest["targets"]["sm89"]["bytes_moved"])
    assert kernels[0] + 9 * (kernels[1] - kernels[0]) <= 260  # observed 257; plain export 407
    assert moved[0] + 9 * (moved[1] - moved[0]) <= 1.345e9  # observed 1.338e9; plain export 2.07e9


def test_a_bf16_engine_runs_bf16(fixed_graph: Path, tmp_path: Path) -> None:
    built = build_engine(fixed_graph, tmp_path / "tiny.engine", BuildOptions("bf16", targets=("sm89",)))
    assert set(built.manifest["targets"]["sm89"]["convolutions_run_in"]) == {"BFloat16"}
    assert built.manifest["precision"] == "bf16"


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_engine_that_does_not_run_what_was_asked_is_not_written(
    fixed_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    nothing = MeasuredCast(CastGraph(onnx.load(fixed_graph), ()), (Judged("nothing", 60.0),), (), ())
    monkeypatch.setattr(precision_room, "cast_measured", lambda *arguments: nothing)
    with pytest.raises(BudgetError, match=rf"asked for is not there(.|\n)*says {precision}.*Float(.|\n)*Nothing was"):
        build_engine(fixed_graph, tmp_path / "tiny.engine", BuildOptions(precision, targets=("sm89",)))
    assert list(tmp_path.iterdir()) == []


def test_a_dynamic_engine_has_its_profiles(dynamic_graph: Path, tmp_path: Path) -> None:
    profiles = (parse_profile("32x32:48x64:64x64"), parse_profile("96x128"))
    built = build_engine(
        dynamic_graph, tmp_path / "tiny.engine", BuildOptions("fp16", targets=("sm89",), profiles=profiles)
    )
    manifest = built.manifest
    assert profiles_from_json(manifest["profiles"]) == profiles
    assert (manifest["height"], manifest["width"], manifest["seen_at"]) == (None, None, [96, 128])
    kernels = manifest["targets"]["sm89"]
    assert set(kernels["convolutions_run_in"]) == {"Half"}
    assert kernels["bytes_moved"] > 96 * 128 * 3 * 4 * 2


@pytest.mark.parametrize(
    ("dynamic", "shapes", "words"),
    [
        (True, (), r"takes every size.*--shapes, .*--shapes-from"),
        (False, ("64x64",), r"has one size, 48x64; --shapes is for"),
        (True, ("64x63",), r"64x63 is none; write 64x64"),
    ],
)
def test_sizes_that_do_not_go_with_the_graph(
    dynamic: bool, shapes: tuple[str, ...], words: str, dynamic_graph: Path, fixed_graph: Path, tmp_path: Path
) -> None:
    options = BuildOptions(profiles=tuple(parse_profile(shape) for shape in shapes))
    with pytest.raises(InputError, match=words):
        build_engine(dynamic_graph if dynamic else fixed_graph, tmp_path / "tiny.engine", options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("precision", "targets", "words"),
    [
        ("fp32", ("sm75",), "fp32 product on sm75"),
        ("bf16", ("sm89", "sm75"), "BFLOAT16, which sm75 does not compute in"),
        ("int8", (), r"has no int8 convolution \(it is fp32\).*unblur calibrate"),
        ("fp8", (), "has no fp8 convolution"),
    ],
)
def test_a_precision_that_the_target_or_the_graph_does_not_have(
    precision: Any, targets: tuple[str, ...], words: str, fixed_graph: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(engine, "compile_engine", None)  # refused before anything is compiled
    with pytest.raises(InputError, match=words):
        build_engine(fixed_graph, tmp_path / "tiny.engine", BuildOptions(precision, targets=targets))
    assert list(tmp_path.iterdir()) == []


def quantised_file(path: Path, kind: int, rest: int = TensorProto.FLOAT16) -> Path:
    """The recorded two-convolution graph between casts, with a pixel contract; 3 channels in and out."""
    model = quantised(kind)
    if rest == TensorProto.FLOAT:
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT16:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    element = helper.tensor_dtype_to_np_dtype(rest)
    ones = np.ones((64, 3, 1, 1), element), np.ones((3, 64, 1, 1), element)
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for v, n in zip(ones, ("wide", "slim"), strict=True))
    inner = list(model.graph.node)
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["input"], ["cast"], "in/Cast", to=rest),
            helper.make_node("Conv", ["cast", "wide"], ["x"], "in/Conv"),
            *inner,
            helper.make_node("Conv", ["y2", "slim"], ["thin"], "out/Conv"),
            helper.make_node("Cast", ["thin"], ["restored"], "out/Cast", to=TensorProto.FLOAT),
        ]
    )
    model.graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 32, 32]))
    model.graph.output.append(helper.make_tensor_value_info("restored", TensorProto.FLOAT, [1, 3, 32, 32]))
    helper.set_model_props(model, {METADATA_KEY: BGR.to_json()})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("kind", "precision", "runs_in"),
    [(TensorProto.INT8, "int8", {"Int8": 2, "Half": 2}), (TensorProto.FLOAT8E4M3FN, "fp8", {"FP8": 2, "Half": 2})],
)
def test_a_quantised_graph_is_built_as_it_is(
    kind: int, precision: Any, runs_in: dict[str, int], tmp_path: Path
) -> None:
    graph = quantised_file(tmp_path / "q.onnx", kind)
    for asked in (precision, None):
        built = build_engine(graph, tmp_path / "q.engine", BuildOptions(asked, targets=("sm89",)))
        assert built.manifest["precision"] == precision
        assert built.manifest["targets"]["sm89"]["convolutions_run_in"] == runs_in
    assert onnx.load(built.graph_path) == onnx.load(graph)
    with pytest.raises(InputError, match=f"is {precision} already"):
        build_engine(graph, tmp_path / "x.engine", BuildOptions("fp16"))


def test_what_is_not_quantised_becomes_narrow_when_it_is_asked(tmp_path: Path) -> None:
    graph = quantised_file(tmp_path / "q.onnx", TensorProto.INT8, rest=TensorProto.FLOAT)
    with pytest.raises(InputError, match=r"4 of its convolutions \(such as in/Conv\) stand in float32"):
        build_engine(graph, tmp_path / "q.engine", BuildOptions(targets=("sm89",)))
    built = build_engine(graph, tmp_path / "q.engine", BuildOptions("int8", targets=("sm89",)))
    assert built.manifest["targets"]["sm89"]["convolutions_run_in"] == {"Int8": 2, "Half": 2}
    assert built.manifest["cast"] is None  # what FP16 costs beside 8 bits is no number of its own


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(5):
        frame = synthetic_pair(seed, 50, 66, "heldout")[0]
        write_picture(folder / f"{seed}.png", Picture(frame), frame)
    return folder


def test_a_cast_is_measured_on_the_frames_that_are_named(
    fixed_graph: Path, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BuildOptions("bf16", targets=("sm89",), frames=pictures)
    manifest = build_engine(fixed_graph, tmp_path / "a.engine", options).manifest
    assert [one["on"] for one in manifest["cast"]["judged_on"]] == ["4 frames of 48x64, from 5 in pictures"]
    assert 45 < manifest["cast"]["fidelity_db"] < 60
    assert {"name", "snr_db", "largest"} == set(manifest["cast"]["tensors"][0])
    rebuilt = rebuild_engine(tmp_path / "a.engine", tmp_path / "b.engine")
    assert rebuilt.manifest["cast"] == manifest["cast"]
    with pytest.raises(BudgetError, match=r"and 70 dB were asked for"):
        build_engine(fixed_graph, tmp_path / "c.engine", replace(options, fidelity_db=70.0))
    assert not (tmp_path / "c.engine").exists()
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no folder with pictures"):
        build_engine(fixed_graph, tmp_path / "c.engine", replace(options, frames=tmp_path / "none"))
    small = synthetic_pair(0, 32, 66, "heldout")[0]
    for seed in range(5):
        write_picture(pictures / f"{seed}.png", Picture(small), small)
    with pytest.raises(InputError, match=r"0.png is 32x66, smaller than 48x64, as all are"):
        build_engine(fixed_graph, tmp_path / "c.engine", options)


def test_the_cast_of_a_large_graph_is_judged_and_its_manifest_says_on_what(
    fixed_graph: Path, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cast_frames, "MOST_MACS", 1.0)
    options = BuildOptions("fp16", targets=("sm89",), frames=pictures)
    built = build_engine(fixed_graph, tmp_path / "a.engine", options, smaller=lambda: fixed_graph)
    judged = built.manifest["cast"]["judged_on"]
    assert [one["on"] for one in judged] == [
        "4 crops of 48x64 through a smaller graph of the same weights, from 5 in pictures",
        "1 whole frame of 48x64, from pictures",
    ]
    assert built.manifest["cast"]["fidelity_db"] == min(one["fidelity_db"] for one in judged)
    bare = build_engine(fixed_graph, tmp_path / "b.engine", replace(options, frames=None))
    (whole,) = bare.manifest["cast"]["judged_on"]
    assert whole["on"] == "1 whole frame of 48x64, drawn"
    assert 60 < whole["fidelity_db"] < 100


def test_an_overflow_is_found_before_the_build(fixed_graph: Path, tmp_path: Path) -> None:
    model = onnx.load(fixed_graph)
    first = next(node.input[1] for node in model.graph.node if node.op_type == "Conv")
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == first)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(5e4), first))
    onnx.save(model, tmp_path / "loud.onnx")
    with pytest.raises(BudgetError, match=r"tensors leave the range of FP16 \(65504\).* reaches "):
        build_engine(tmp_path / "loud.onnx", tmp_path / "x.engine", BuildOptions("fp16", targets=("sm89",)))
    assert not (tmp_path / "x.engine").exists()


def test_fp8_is_not_portable_and_emulated_int8_is_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be built for portable(.|\n)*fp8 target"):
        build_engine(quantised_file(tmp_path / "8.onnx", TensorProto.FLOAT8E4M3FN), tmp_path / "x.engine")
    with pytest.raises(BudgetError, match="emulated"):
        build_engine(
            quantised_file(tmp_path / "i.onnx", TensorProto.INT8),
            tmp_path / "x.engine",
            BuildOptions(targets=("sm75",)),
        )
    assert not (tmp_path / "x.engine").exists()


def test_a_failed_build_leaves_the_engine_before_it(
    fixed_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills while the new engine is written: whatever stood under the names stands there still."""
    output = tmp_path / "tiny.engine"
    build_engine(fixed_graph, output, BuildOptions("fp16", targets=("sm89",)))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.suffix == ".engine":
            real(path, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="disk is full"):
        build_engine(fixed_graph, output, BuildOptions("fp32", targets=("sm89",)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_killed_between_two_names_no_manifest_vouches(
    fixed_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "tiny.engine"
    build_engine(fixed_graph, output, BuildOptions("fp16", targets=("sm89",)))
    real = Path.replace

    def dies(path: Path, target: Any) -> Path:
        if Path(target) == output:
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        build_engine(fixed_graph, output, BuildOptions("fp32", targets=("sm89",)))
    assert not companions(output)[1].exists()


def test_two_builds_at_once_are_one(fixed_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits and takes the file that the first has made; asked for something else it builds its own."""
    compiled: list[str] = []
    real = engine.compile_engine

    def slow(*arguments: Any, **options: Any) -> Any:
        compiled.append(threading.current_thread().name)
        time.sleep(0.5)
        return real(*arguments, **options)

    monkeypatch.setattr(engine, "compile_engine", slow)
    found: dict[str, Any] = {}

    def run(name: str, precision: Any) -> None:
        found[name] = build_engine(fixed_graph, tmp_path / "x.engine", BuildOptions(precision, targets=("sm89",)))

    threads = [threading.Thread(target=run, args=(name, "fp16"), name=name) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 1
    assert found["one"].manifest == found["two"].manifest
    assert not list(tmp_path.glob(".*lock"))
    threads = [threading.Thread(target=run, args=(p, p)) for p in ("fp32", "fp16")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 3
    check_files(tmp_path / "x.engine", read_manifest(tmp_path / "x.engine"))


def test_rebuilt_from_its_recipe_an_engine_is_the_same(fixed_graph: Path, tmp_path: Path) -> None:
    options = BuildOptions("fp16", targets=("sm89", "sm120"), optimization_level=2, builds=2)
    first = build_engine(fixed_graph, tmp_path / "a.engine", options)
    # Observed of graphs of one size; builds of a dynamic graph differ in their bytes, not in their kernels.
    assert len({attempt["sha256"] for attempt in first.manifest["builds"]}) == 1
    first.path.write_bytes(b"of another version")  # what is rebuilt need not be whole
    second = rebuild_engine(first.path)
    timed = {"build_seconds", "builds"}
    assert {k: v for k, v in second.manifest.items() if k not in timed} == {
        k: v for k, v in first.manifest.items() if k not in timed
    }
    check_files(second.path, second.manifest)
    other = rebuild_engine(first.path, tmp_path / "b.engine")
    assert file_digest(other.path) == first.manifest["engine_sha256"]


def test_a_rebuilt_dynamic_engine_keeps_its_profiles(dynamic_graph: Path, tmp_path: Path) -> None:
    options = BuildOptions("fp16", targets=("sm89",), profiles=(parse_profile("32x32:48x64:64x64"),))
    first = build_engine(dynamic_graph, tmp_path / "a.engine", options)
    second = rebuild_engine(first.path)
    for name in ("profiles", "recipe", "kept_fp32", "source_graph_sha256", "targets", "seen_at"):
        assert second.manifest[name] == first.manifest[name], name


def test_what_cannot_be_rebuilt(fixed_graph: Path, tmp_path: Path) -> None:
    built = build_engine(fixed_graph, tmp_path / "a.engine", BuildOptions("fp16", targets=("sm89",)))
    whole = built.manifest_path.read_text()

    def refused(text: str | None, words: str) -> None:
        built.manifest_path.unlink(missing_ok=True)
        if text is not None:
            built.manifest_path.write_text(text)
        with pytest.raises(InputError, match=words):
            rebuild_engine(built.path)

    refused(None, "does not exist: the engine was not finished")
    refused(whole[: len(whole) // 2], "only a part of one")
    refused("[]", "no manifest of an engine: it has no recipe")
    refused(json.dumps({k: v for k, v in built.manifest.items() if k != "recipe"}), "it has no recipe")
    broken = built.manifest | {"recipe": built.manifest["recipe"] | {"profiles": [{"min": [1, 2]}]}}
    refused(json.dumps(broken), r"key 'recipe.profiles.0.opt' is missing")
    built.manifest_path.write_text(whole)
    built.graph_path.write_bytes(built.graph_path.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"a\.engine\.onnx is not the graph"):
        rebuild_engine(built.path)
