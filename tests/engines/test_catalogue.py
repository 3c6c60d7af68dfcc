"""Names, threads, missing packages and missing instructions: every refusal says what to do instead."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from fake_machine import FakeMachine
from tiny_graph import write_graph

from unblur.core.errors import BudgetError, InputError, MissingRuntimeError
from unblur.core.provenance import default_threads
from unblur.engines import onnxruntime_runner, openvino_runner, torch_runner
from unblur.engines.catalogue import CATALOGUE, REFERENCE, open_engine
from unblur.engines.onnxruntime_runner import OnnxRuntimeRunner
from unblur.engines.tensorrt import product as tensorrt_product
from unblur.engines.tensorrt import runner as tensorrt_runner
from unblur.engines.tensorrt.manifest import companions
from unblur.graphs.file import read_graph
from unblur.graphs.metadata import CHECKPOINT_KEY, ORDER_KEY
from unblur.graphs.sessions import Provider
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(BANet(BANetSpec(depth=1, stem_width=2, width=4, fuse_width=2)), path)
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "tiny.onnx", None)


def test_the_reference_is_eager_float32_torch(checkpoint: Checkpoint) -> None:
    with open_engine(REFERENCE, checkpoint, None) as runner:
        about = runner.description
    assert (about["backend"], about["mode"], about["precision"], about["layout"]) == (
        "torch",
        "eager",
        "f32",
        "contiguous",
    )
    assert about["threads"] == str(default_threads())
    assert about["checkpoint"] == checkpoint.digest


def test_unknown_engine_names_the_nearest(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"did you mean 'onnxruntime'.*known: torch,"):
        open_engine("onnx-runtime", checkpoint, None)


@pytest.mark.parametrize("name", [name for name, engine in CATALOGUE.items() if engine.runs != "checkpoint"])
def test_engines_of_files_need_one(name: str, checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"unblur (export|build)"):
        open_engine(name, checkpoint, None)


def test_a_graph_of_another_checkpoint_is_refused(checkpoint: Checkpoint, graph: Path, tmp_path: Path) -> None:
    model = onnx.load(graph)
    for digest, accepted in ((checkpoint.digest, True), ("0" * 64, False)):
        entry = next((e for e in model.metadata_props if e.key == CHECKPOINT_KEY), None) or model.metadata_props.add()
        entry.key, entry.value = CHECKPOINT_KEY, digest
        onnx.save(model, tmp_path / "graph.onnx")
        if accepted:
            open_engine("onnxruntime", checkpoint, tmp_path / "graph.onnx").close()
        else:
            with pytest.raises(InputError, match="made from another checkpoint"):
                open_engine("onnxruntime", checkpoint, tmp_path / "graph.onnx")


def test_what_was_made_for_another_channel_order_is_refused(
    checkpoint: Checkpoint, graph: Path, tmp_path: Path
) -> None:
    """Also where it takes bytes, whose contract is RGB for every network."""
    model = onnx.load(graph)
    entry = model.metadata_props.add()
    for order, accepted in (("bgr", True), ("rgb", False)):
        entry.key, entry.value = ORDER_KEY, order
        onnx.save(model, tmp_path / "graph.onnx")
        if accepted:
            open_engine("onnxruntime", checkpoint, tmp_path / "graph.onnx").close()
        else:
            with pytest.raises(InputError, match=r"trained on rgb, but .* trained on bgr; give the right --channel-o"):
                open_engine("onnxruntime", checkpoint, tmp_path / "graph.onnx")
    machine = FakeMachine("tensorrt-10")
    file = machine.build(graph, tmp_path / "e.engine", [(8, 24)], precision="fp16", checkpoint=checkpoint.digest)
    companions(file.path)[1].write_text(json.dumps(file.manifest | {"channel_order": "rgb"}))
    with machine.installed(), pytest.raises(InputError, match="trained on rgb"):
        open_engine("tensorrt-fp16", checkpoint, file.path)


def test_threads_are_at_least_one(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="0 threads"):
        open_engine("torch", checkpoint, None, threads=0)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_threads_reach_the_backend(name: str, checkpoint: Checkpoint, graph: Path) -> None:
    with open_engine(name, checkpoint, graph, threads=1) as runner:
        assert runner.description["threads"] == "1"
        assert runner.description["precision"] == "f32"


def test_openvino_binds_threads_to_cores_only_where_it_takes_all(checkpoint: Checkpoint, graph: Path) -> None:
    """Else an engine in another process would be bound to the same ones."""
    everything = default_threads()
    for threads in {1, everything}:
        with open_engine("openvino", checkpoint, graph, threads=threads) as runner:
            assert runner.description["bound to cores"] == ("yes" if threads == everything else "no")


def test_torch_gives_the_number_of_threads_back(checkpoint: Checkpoint) -> None:
    before = torch.get_num_threads()
    inside = []
    with open_engine("torch", checkpoint, None, threads=before + 1) as runner:
        hook = checkpoint.network.register_forward_hook(lambda *_: inside.append(torch.get_num_threads()))
        try:
            runner.run(checkpoint.contract.encode(np.zeros((16, 16, 3), np.uint8)))
        finally:
            hook.remove()
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
def test_a_missing_package_says_how_to_get_it(
    package: str, checkpoint: Checkpoint, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingRuntimeError, match=r'pip install -e "\.\[cpu\]"') as caught:
        open_engine(package, checkpoint, graph)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", ["torch-bf16", "torch-compile-bf16"])
def test_torch_without_bf16_instructions(name: str, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_runner, "torch_has_bf16", lambda: False)
    with pytest.raises(MissingRuntimeError, match=r"avx512_bf16 nor amx_bf16.*use torch"):
        open_engine(name, checkpoint, None)


def test_openvino_without_bf16_instructions(checkpoint: Checkpoint, graph: Path) -> None:
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with open_engine("openvino-bf16", checkpoint, graph) as runner:
            assert runner.description["convolutions"] == "1 bf16"
        return
    with pytest.raises(MissingRuntimeError, match=r"avx512_bf16 nor amx_bf16.*OpenVINO reports FP32.*use openvino"):
        open_engine("openvino-bf16", checkpoint, graph)


def test_torch_without_a_compiler(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_runner, "_compilers", lambda: ["no-such-compiler"])
    with pytest.raises(MissingRuntimeError, match=r"no-such-compiler.*install g\+\+"):
        open_engine("torch-compile", checkpoint, None)


def test_openvino_is_asked_what_it_really_runs(graph: Path) -> None:
    compiled = openvino.Core().compile_model(str(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert openvino_runner.convolution_precisions(compiled) == Counter({"f32": 1})


def test_another_precision_than_asked_is_not_accepted(
    checkpoint: Checkpoint, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_runner, "convolution_precisions", lambda _: Counter({"f32": 93, "f16": 1}))
    with pytest.raises(BudgetError, match=r"asked for f32.*'f16': 1"):
        open_engine("openvino", checkpoint, graph)


def test_the_catalogue_imports_no_backend() -> None:
    code = (
        "import sys, unblur.engines.catalogue; "
        "print({'onnxruntime', 'openvino', 'tensorrt', 'tensorrt_rtx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_runtime_sends_anything_or_leaves_an_id(tmp_path: Path) -> None:
    """ONNX Runtime from 1.29 on would, and OpenVINO when it is imported: a file in the user's home, and events over the
    network."""
    value = onnx.helper.make_tensor_value_info
    shape = (onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value("x", *shape)], [value("y", *shape)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    code = (
        "import sys; from unblur.graphs.sessions import open_onnxruntime; "
        "open_onnxruntime('test').InferenceSession(bytes.fromhex(sys.argv[1]), providers=['CPUExecutionProvider']); "
        "import onnx; from unblur.engines.openvino_runner import compile_openvino; "
        "compile_openvino(onnx.ModelProto.FromString(bytes.fromhex(sys.argv[1])), 1)"
    )
    environment = {
        key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "ORT_DISABLE_TELEMETRY")
    }
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, model.SerializeToString().hex()]
    subprocess.run(command, env=environment, check=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", [name for name, engine in CATALOGUE.items() if engine.device == "cuda"])
def test_without_a_gpu_its_engines_end_with_a_sentence_and_exit_code_4(
    name: str, checkpoint: Checkpoint, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file: Path | None = graph
    if CATALOGUE[name].runs == "engine":
        engine = CATALOGUE[name]
        machine = FakeMachine("tensorrt-rtx" if engine.backend == "tensorrt-rtx" else "tensorrt-10")
        file = machine.build(graph, tmp_path / "e.engine", [(8, 24)], precision=engine.precision).path
        monkeypatch.setattr(tensorrt_runner, "open_product", lambda _: machine.product)

    def absent() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(tensorrt_product, "load_libcuda", absent)
    with pytest.raises(MissingRuntimeError, match=r"No NVIDIA driver|build without CUDA") as caught:
        open_engine(name, checkpoint, file)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_an_engine_file_is_opened_by_its_own_name(checkpoint: Checkpoint, graph: Path, tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-10")
    file = machine.build(graph, tmp_path / "e.engine", [(8, 24)], precision="fp16", checkpoint=checkpoint.digest)
    with machine.installed(), open_engine("tensorrt-fp16", checkpoint, file.path) as runner:
        assert runner.description["precision"] == "fp16"
    for name in ("tensorrt", "tensorrt-rtx-fp16"):
        with pytest.raises(InputError, match="open it as tensorrt-fp16"):
            open_engine(name, checkpoint, file.path)
    other = machine.build(graph, tmp_path / "o.engine", [(8, 24)], precision="fp16", checkpoint="0" * 64)
    with pytest.raises(InputError, match="made from another checkpoint"):
        open_engine("tensorrt-fp16", checkpoint, other.path)


def test_a_graph_that_would_run_in_part_elsewhere_is_refused(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the CUDA provider leaves nodes to the CPU: here the session itself says another name."""
    session = onnxruntime.InferenceSession

    class Renamed(session):  # type: ignore[misc, valid-type]
        def get_providers(self) -> list[str]:
            return ["AnotherProvider", "CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Renamed)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AnotherProvider"])
    monkeypatch.setattr(onnxruntime_runner, "_providers", lambda *_: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match=r"2 nodes of .* would not run with AnotherProvider: Conv \(CPU"):
        OnnxRuntimeRunner("onnxruntime-cuda", read_graph(graph), 1, Provider("AnotherProvider", "cpu"))
    with pytest.raises(MissingRuntimeError, match="has no CUDAExecutionProvider"):
        OnnxRuntimeRunner("onnxruntime-cuda", read_graph(graph), 1, Provider("CUDAExecutionProvider", "cpu"))
