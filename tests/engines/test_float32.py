"""What lets oneDNN round float32 to bfloat16 is refused, or switched off: engines and the reference state float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_graph import write_graph

from unblur.core.errors import InputError
from unblur.engines.catalogue import open_engine
from unblur.networks.checkpoints import Checkpoint

KINDS = (torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul)


@pytest.fixture
def rounding_allowed() -> Iterator[None]:
    """As `torch.set_float32_matmul_precision` and its newer switches leave a process."""
    before = [kind.fp32_precision for kind in KINDS]
    for kind in KINDS:
        kind.fp32_precision = "bf16"
    yield
    for kind, precision in zip(KINDS, before, strict=True):
        kind.fp32_precision = precision


@pytest.mark.parametrize("name", ["torch", "openvino"])
@pytest.mark.parametrize("switch", ["ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"])
def test_a_variable_that_lets_float32_be_rounded_is_refused(
    name: str, switch: str, tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny if name == "torch" else None
    file = write_graph(tmp_path / "a.onnx", (8, 8)) if name == "openvino" else None
    monkeypatch.setenv(switch, "BF16")
    with pytest.raises(InputError, match=f"{name}: {switch}=BF16 .* unset it"):
        open_engine(name, checkpoint, file, 1)
    monkeypatch.setenv(switch, "STRICT")
    open_engine(name, checkpoint, file, 1).close()


def test_the_reference_computes_in_float32_whatever_the_process_allows(
    tiny: Checkpoint, rounding_allowed: None
) -> None:
    seen: list[str] = []
    hook = tiny.network.register_forward_hook(lambda *_: seen.extend(kind.fp32_precision for kind in KINDS))
    with open_engine("torch", tiny, None, 1) as runner:
        runner.run(np.zeros((1, 3, 16, 16), np.float32))
    hook.remove()
    assert seen == ["ieee", "ieee"]
    assert [kind.fp32_precision for kind in KINDS] == ["bf16", "bf16"]
