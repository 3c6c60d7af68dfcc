"""The data-centre product's way through the builder, against a fake of 10.16 and 11.4 and a fake driver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from fake_cuda import FakeGpu
from fake_inspector import inspected
from fake_libcuda import FakeCuda
from fake_tensorrt import VERSIONS, FakeTensorRT
from tiny_graph import write_graph

from unblur.core.console import Silent
from unblur.core.errors import InputError, MissingRuntimeError, UnblurError
from unblur.engines.tensorrt import product as tensorrt_product
from unblur.engines.tensorrt.builder import CompiledEngine, compile_engine
from unblur.engines.tensorrt.product import Product
from unblur.engines.tensorrt.profiles import parse_profile

LOGS = Path(__file__).parents[1] / "xray" / "logs"
PROFILES = (parse_profile("16x16:32x32:64x64"), parse_profile("96x128"))


class Notes(Silent):
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(params=["tensorrt-10", "tensorrt-11"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    monkeypatch.setattr(tensorrt_product, "load_libcuda", FakeCuda)
    return FakeTensorRT(VERSIONS[request.param], FakeGpu())


def graph(folder: Path, size: tuple[int, int] | None = (32, 48)) -> onnx.ModelProto:
    model = onnx.load(write_graph(folder / "g.onnx", size))
    next(node for node in model.graph.node if node.op_type == "Conv").name = "layer/Conv"
    return model


def compile_it(fake: FakeTensorRT, model: onnx.ModelProto, **options: Any) -> CompiledEngine:
    fake.inspector = inspected(model, "Float", fake.version)
    product = Product("tensorrt", fake.module, fake.version)
    return compile_engine(model.SerializeToString(), product=product, **options)


def test_the_kernels_are_the_inspectors_and_the_gpu_is_named(fake: FakeTensorRT, tmp_path: Path) -> None:
    engine = compile_it(fake, graph(tmp_path), optimization_level=4)
    assert list(engine.listed) == ["sm89"]
    assert [kernel.nodes for kernel in engine.xrays["sm89"].kernels] == [("layer/Conv",)]
    assert engine.device is not None
    assert engine.device.name.startswith("NVIDIA GeForce RTX 4090")
    assert engine.data.startswith(b"FAKE plan tensorrt " + fake.version.encode())
    assert ("Builder.create_network", (2 if fake.version.startswith("10") else 1,)) in fake.calls  # strongly typed


def test_without_a_driver_no_tensorrt_object_is_made(
    fake: FakeTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> Any:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(tensorrt_product, "load_libcuda", absent)
    with pytest.raises(MissingRuntimeError, match="No NVIDIA driver"):
        compile_it(fake, graph(tmp_path))
    assert fake.calls == []


def test_it_compiles_for_no_other_gpu(fake: FakeTensorRT, tmp_path: Path) -> None:
    assert list(compile_it(fake, graph(tmp_path), targets=["current"]).listed) == ["sm89"]
    assert list(compile_it(fake, graph(tmp_path), targets=["sm89"]).listed) == ["sm89"]
    with pytest.raises(InputError, match=r"RTX 4090.*not for sm120.*--flavor tensorrt-rtx"):
        compile_it(fake, graph(tmp_path), targets=["sm120"])


def test_profiles(fake: FakeTensorRT, tmp_path: Path) -> None:
    engine = compile_it(fake, graph(tmp_path, None), profiles=PROFILES)
    assert engine.seen_at == (32, 32)
    assert fake.count("IBuilderConfig.add_optimization_profile") == 2
    assert ("IOptimizationProfile.set_shape", ("x", (1, 3, 96, 128), (1, 3, 96, 128), (1, 3, 96, 128))) in fake.calls
    with pytest.raises(InputError, match="name those it is compiled for with --shapes"):
        compile_it(fake, graph(tmp_path, None))
    with pytest.raises(InputError, match="one size, 1x3x32x48"):
        compile_it(fake, graph(tmp_path), profiles=PROFILES)
    fake.returns["IBuilderConfig.add_optimization_profile"] = -1
    with pytest.raises(InputError, match="does not take the profile 16x16:32x32:64x64"):
        compile_it(fake, graph(tmp_path, None), profiles=PROFILES)


def test_what_the_parser_refuses_has_node_operator_and_cure(fake: FakeTensorRT, tmp_path: Path) -> None:
    fake.parser_errors = [
        {"node_name": "align/DeformConv", "operator": "DeformConv", "desc": "Plugin not found, are the ..."},
        {"node": 7, "operator": "QuantizeLinear", "desc": "Non-zero zero point is not supported.\nmore"},
    ]
    with pytest.raises(InputError) as error:
        compile_it(fake, graph(tmp_path))
    lines = str(error.value).splitlines()
    assert lines[1] == (
        "  node 'align/DeformConv' (DeformConv): Plugin not found, are the ...; it is a plugin, which no product here "
        "carries: export the network without deformable convolutions"
    )
    assert lines[2].startswith(
        "  node 'number 7' (QuantizeLinear): Non-zero zero point is not supported.; quantise sym"
    )
    assert len(lines) == 3


def test_no_engine_is_told_by_the_last_errors(fake: FakeTensorRT, tmp_path: Path) -> None:
    fake.build_log = [("ERROR", f"Error {k}") for k in range(9)] + [("ERROR", "CUDA out of memory")]
    fake.returns["Builder.build_serialized_network"] = None
    with pytest.raises(UnblurError, match="it logged no reason"):
        compile_it(fake, graph(tmp_path))
    del fake.returns["Builder.build_serialized_network"]
    fake.returns["Runtime.deserialize_cuda_engine"] = None
    with pytest.raises(UnblurError, match=r"does not open(.|\n)*Error 8\n  CUDA out of memory; close what else"):
        compile_it(fake, graph(tmp_path))


def test_warnings_are_summed_up(fake: FakeTensorRT, tmp_path: Path) -> None:
    fake.build_log = [("WARNING", f"onnxOpImporters.cpp:{k}: Tensor 'a{k}' of 0x{k} is narrowed") for k in range(40)]
    fake.build_log += [("WARNING", "Something else"), ("INFO", "nothing")]
    notes = Notes()
    engine = compile_it(fake, graph(tmp_path), progress=notes, builds=2)
    assert engine.warnings == ("80x onnxOpImporters.cpp:0: Tensor 'a0' of 0x0 is narrowed", "2x Something else")
    assert sum("narrowed" in text for text in notes.said) == 1


def test_the_timing_cache_lies_beside_the_engine_and_is_joined(fake: FakeTensorRT, tmp_path: Path) -> None:
    caches, model = tmp_path / "caches", graph(tmp_path)
    compile_it(fake, model, caches=caches)
    (path,) = caches.iterdir()
    assert path.name == f"tensorrt-{fake.version}-nvidia-geforce-rtx-4090-40-sm89.timing"
    assert path.read_bytes() == b"FAKE timing tensorrt " + fake.version.encode() + b"\n"
    fake.calls.clear()
    compile_it(fake, model, caches=caches)
    assert ("IBuilderConfig.create_timing_cache", (path.read_bytes(),)) in fake.calls
    assert fake.count("ITimingCache.combine") == 1
    notes = Notes()
    for bad in (b"damaged", b"FAKE timing tensorrt 9.0\n"):
        notes.said.clear()
        path.write_bytes(bad)
        compile_it(fake, model, caches=caches, progress=notes)
        assert sum("of another TensorRT or GPU" in text for text in notes.said) == 2  # left out, then replaced
        assert path.read_bytes() == b"FAKE timing tensorrt " + fake.version.encode() + b"\n"


def test_float32_is_float32(fake: FakeTensorRT, tmp_path: Path) -> None:
    """TF32 is on by default, and has FP16's mantissa."""
    data = compile_it(fake, graph(tmp_path)).data
    assert json.loads(data.splitlines()[1])["flags"] == []


def test_what_an_rtx_engine_needs_its_user_allocates(tmp_path: Path) -> None:
    """Else TensorRT for RTX may allocate while large frames run, and captures no CUDA graph then."""
    fake = FakeTensorRT(VERSIONS["tensorrt-rtx"])
    fake.build_log = [("VERBOSE", (LOGS / "rtx-1.7-layers.txt").read_text())]
    product = Product("tensorrt-rtx", fake.module, fake.version)
    data = compile_engine(graph(tmp_path).SerializeToString(), ["sm89"], product=product).data
    assert json.loads(data.splitlines()[1])["flags"] == ["REQUIRE_USER_ALLOCATION"]


def test_of_several_builds_the_one_that_moves_least_is_kept(
    fake: FakeTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = graph(tmp_path)
    sides = iter([64, 16, 32])
    play = fake.module.EngineInspector.get_engine_information

    def varying(part: Any, form: Any) -> Any:
        side = next(sides)
        fake.inspector = inspected(model, "Half", fake.version, (1, 8, side, side))
        return play(part, form)

    monkeypatch.setattr(fake.module.EngineInspector, "get_engine_information", varying)
    engine = compile_it(fake, model, builds=3)
    assert engine.chosen == 1
    assert [attempt.bytes_moved for attempt in engine.attempts] == [2 * 2 * 8 * s * s for s in (64, 16, 32)]
    assert engine.xrays["sm89"].bytes_moved == 2 * 2 * 8 * 16 * 16


@pytest.mark.parametrize(("options", "words"), [({"builds": 0}, "0 builds"), ({"optimization_level": 6}, "level 6")])
def test_options_out_of_range(fake: FakeTensorRT, tmp_path: Path, options: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        compile_it(fake, graph(tmp_path), **options)
