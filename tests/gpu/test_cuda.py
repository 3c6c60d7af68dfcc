"""What needs an NVIDIA GPU (`make test-gpu`): the network on CUDA, and whether the compiled engine loads there."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from unblur.building.engine import BuildOptions, build_engine
from unblur.core.errors import MissingRuntimeError
from unblur.engines.tensorrt.file import read_engine
from unblur.engines.tensorrt.runner import TensorRtRunner
from unblur.networks.checkpoints import Checkpoint

pytestmark = pytest.mark.gpu


def test_the_network_on_cuda_is_the_network_on_the_cpu(tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 without TF32, at a size whose nearest index depends on float32 arithmetic (half: 123)."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    x = torch.rand((1, 3, 246, 64), generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.inference_mode():
        expected = copy.deepcopy(tiny.network).double()(x.double())
        got = copy.deepcopy(tiny.network).cuda()(x.cuda()).cpu()
    assert float((got - expected).abs().max()) < 1e-5  # a wrong index alone moves it by 1e-2


@pytest.mark.tensorrt_rtx
def test_the_portable_fp16_engine_loads_on_this_gpu(fixed_graph: Path, tmp_path: Path) -> None:
    """Ampere and later; where the product refuses a GPU (an H100, seen) unblur says so in a sentence."""
    import tensorrt_rtx as trt

    built = build_engine(fixed_graph, tmp_path / "tiny.engine", BuildOptions("fp16"))
    logger = trt.Logger(trt.Logger.WARNING)
    runtime: Any = trt.Runtime(logger)
    data = built.path.read_bytes()
    validity, diagnostics = runtime.get_engine_validity(data)
    if int(diagnostics) & int(trt.EngineInvalidityDiagnostics.UNSUPPORTED_CC):
        with pytest.raises(MissingRuntimeError, match="does not support this GPU"):
            TensorRtRunner("tensorrt-rtx", read_engine(built.path))
        pytest.skip(f"TensorRT for RTX {trt.__version__} does not run on {torch.cuda.get_device_name()}")
    assert validity != trt.EngineValidity.INVALID, f"diagnostics {diagnostics} on {torch.cuda.get_device_name()}"
    engine = runtime.deserialize_cuda_engine(data)
    assert engine is not None
    assert {engine.get_tensor_name(k) for k in range(engine.num_io_tensors)} == {"input", "restored"}
