"""Every TensorRT name in the source exists in 10.16, 11.4 and RTX 1.7, or where the code has asked for the product."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from fake_machine import FakeMachine
from trt_names import CLASSES, uses

import unblur

FILES = sorted(
    file
    for file in (Path(unblur.__file__).parent / "engines" / "tensorrt").glob("*.py")
    if not file.name.startswith(("cuda_", "device_"))
)
LIBRARIES = Path(unblur.__file__).parent / "engines" / "tensorrt" / "cuda_memory.py"


def test_every_name_exists_in_every_release_it_meets() -> None:
    wrong = [
        f"{file.name}:{use.line}: {use.owner or 'the module'} has no {use.name} in {', '.join(use.missing())}"
        for file in FILES
        for use in uses(file.read_text())
        if use.missing()
    ]
    assert wrong == []


def test_the_search_finds_what_is_there() -> None:
    found = {(use.owner, use.name) for file in FILES for use in uses(file.read_text())}
    assert {
        ("", "Runtime"),
        ("", "Builder"),
        ("Builder", "build_serialized_network"),
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("IExecutionContext", "execute_async_v3"),
        ("IExecutionContext", "set_input_shape"),
        ("ICudaEngine", "device_memory_size_v2"),
        ("Runtime", "get_engine_validity"),
        ("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE"),
        ("IRuntimeConfig", "set_runtime_cache"),
    } <= found
    assert len(found) > 60


def test_tensorrt_is_used_in_these_files_only() -> None:
    """Elsewhere a name of it would not be looked at."""
    others = [file for file in LIBRARIES.parents[2].rglob("*.py") if file not in FILES]
    assert [file.name for file in others if any(use.owner == "" for use in uses(file.read_text()))] == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", ["FP16"]),
        ("self._config.int8_calibrator = None", ["int8_calibrator"]),
        ("trt.IInt8EntropyCalibrator2()", ["IInt8EntropyCalibrator2"]),
        ("builder.platform_has_fast_fp16", ["platform_has_fast_fp16"]),
        ("cuda_engine.device_memory_size", ["device_memory_size"]),
        ("x = trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", ["EXPLICIT_BATCH"]),
        ("config.num_compute_capabilities = 1", ["num_compute_capabilities"]),
        ("if product.name == 'tensorrt-rtx':\n  config.num_compute_capabilities = 1", []),
        ("if product.name != 'tensorrt-rtx':\n  config.num_compute_capabilities = 1", ["num_compute_capabilities"]),
        ("if self.is_rtx:\n  pass\nelse:\n  trt.CudaGraphStrategy.DISABLED", ["CudaGraphStrategy", "DISABLED"]),
        ("if not self.is_rtx:\n  x = 1\nelse:\n  x = trt.CudaGraphStrategy.DISABLED", []),
        ("def _open_rtx(runtime):\n  runtime.get_engine_validity(b'')", []),
        ("def _open(runtime):\n  runtime.get_engine_validity(b'')", ["get_engine_validity"]),
        ("x = runtime_config.cuda_graph_strategy if self.is_rtx else None", []),
        ("x = None if self.is_rtx else builder.build_engine_with_config", []),
        ("x = builder.build_engine_with_config", ["build_engine_with_config"]),
        ("if self.is_rtx and x:\n  trt.CudaGraphStrategy\nelse:\n  config.int8_calibrator", ["int8_calibrator"]),
        ("if x == 'tensorrt' and y:\n  trt.CudaGraphStrategy", ["CudaGraphStrategy"]),
        ("if device:\n  config.int8_calibrator", ["int8_calibrator"]),
        ("engine.with_name('x')", []),
        ("context.execute_async_v2(0)", ["execute_async_v2"]),
    ],
)
def test_the_search_turns_red(source: str, wrong: list[str]) -> None:
    assert sorted({use.name for use in uses(source) if use.missing()}) == sorted(wrong)


def test_the_convention_of_names_is_kept() -> None:
    """What TensorRT's own functions return must get a name that the search knows."""
    makers = {"create_execution_context", "deserialize_cuda_engine", "create_engine_inspector", "create_runtime_config",
              "create_runtime_cache", "create_builder_config", "create_network", "Runtime", "Builder", "OnnxParser",
              "create_optimization_profile", "get_timing_cache"}  # fmt: skip
    unknown = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
                continue
            function, target = node.value.func, node.targets[0]
            if isinstance(function, ast.Attribute) and function.attr in makers:
                name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
                if name.lstrip("_") not in CLASSES:
                    unknown.append(f"{file.name}:{node.lineno}: {name} = ...{function.attr}()")
    assert unknown == []


def test_the_fake_pytorch_has_no_name_that_pytorch_lacks() -> None:
    fake = FakeMachine("tensorrt-10")._torch()
    assert {name for name in vars(fake) if not hasattr(torch, name)} == set()
    assert {name for name in vars(fake.cuda) if not hasattr(torch.cuda, name)} == set()
    used = {
        node.attr
        for node in ast.walk(ast.parse(LIBRARIES.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("cuda", "self._torch.cuda", "torch.cuda")
    }
    assert used == set(vars(fake.cuda))
