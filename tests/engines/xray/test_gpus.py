"""The table of GPUs: figures that belong together, names as people write them."""

from __future__ import annotations

import pytest

from unblur.core.errors import InputError
from unblur.engines.tensorrt.targets import TARGETS
from unblur.engines.xray.gpus import GPUS, find_gpu, gpus_of


@pytest.mark.parametrize("name", ["RTX 4090", "rtx 4090", "RTX-4090", "NVIDIA GeForce RTX 4090"])
def test_a_gpu_by_any_of_its_names(name: str) -> None:
    assert find_gpu(name).name == "RTX 4090"


@pytest.mark.parametrize(
    ("name", "words"),
    [("RTX 4099", "did you mean 'RTX 4090'"), ("h20", "did you mean 'H200'"), ("abacus", "known: RTX 2080 Ti, ")],
)
def test_an_unknown_gpu_names_the_nearest(name: str, words: str) -> None:
    with pytest.raises(InputError, match="No figures are known") as caught:
        find_gpu(name)
    assert words in str(caught.value)


def test_figures_are_dense_and_in_their_order() -> None:
    """Twice the width is at most half the rate; a figure "with sparsity" among dense ones would stand out."""
    for gpu in GPUS:
        assert 1.9 * gpu.fp16 <= gpu.int8 <= 4.1 * gpu.fp16, gpu
        assert gpu.fp8 is None or gpu.fp8 <= gpu.int8, gpu
        assert gpu.tf32 is None or gpu.fp32 <= gpu.tf32 <= gpu.fp16 / 1.9, gpu
        assert gpu.bf16 in (None, gpu.fp16), gpu
        assert (gpu.fp8 is None) == (gpu.target in ("sm75", "sm80", "sm86")), gpu
        assert 100 < gpu.bandwidth < 10000, gpu


def test_every_row_names_its_document() -> None:
    """FP32 accumulation halves a GeForce card's FP16 rate: INT8 is four times that there, twice elsewhere."""
    for gpu in GPUS:
        assert any(word in gpu.source for word in ("architecture", "data sheet", "nvidia.com/en-us/data-center")), gpu
        assert gpu.int8 / gpu.fp16 == pytest.approx(4 if gpu.name.startswith("RTX") else 2, rel=0.02), gpu
        if gpu.fp8 is not None:
            assert gpu.fp8 / gpu.fp16 == pytest.approx(2, rel=0.02), gpu


def test_rates_are_per_second_and_float_may_use_tf32() -> None:
    assert find_gpu("A100").rate("Float") == 156e12
    assert find_gpu("RTX 2080 Ti").rate("Float") == 13.4e12
    assert find_gpu("RTX 2080 Ti").rate("BFloat16") is None
    assert find_gpu("H200").rate("FP8") == 1979e12
    assert find_gpu("H200").rate("Int32") is None


def test_gpus_of_a_target() -> None:
    assert [gpu.name for gpu in gpus_of("sm89")] == ["RTX 4090", "L4", "L40S"]
    assert "RTX 2080 Ti" not in [gpu.name for gpu in gpus_of("portable")]
    assert {gpu.target for gpu in GPUS} - {"sm90"} <= set(TARGETS)  # Hopper is not a GPU family of TensorRT for RTX
