"""PyTorch's CUDA ladder, on the CPU: all but CUDA itself (tests/gpu runs the ladder through the conformance suite)."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unblur.core.errors import CrashError, MissingRuntimeError
from unblur.engines import torch_cuda_runner
from unblur.engines.runner import restore_frame
from unblur.engines.tensorrt import product
from unblur.engines.torch_cuda_runner import SIZES_MAX, CudaVariant, TorchCudaRunner
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import Checkpoint, load_checkpoint

ROOT = Path(__file__).parents[2]


def frame(checkpoint: Checkpoint, height: int = 16, width: int = 18, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return checkpoint.contract.encode(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def expected(checkpoint: Checkpoint, tensor: Any) -> Any:
    with torch.no_grad():
        return checkpoint.network(torch.from_numpy(tensor)).clamp(-0.5, 0.5).numpy()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    # Observed: f32 and tf32 (which a CPU does not have) 1.2e-7; fp16 4e-4; bf16 3e-3. A factor of 4 is left.
    ("precision", "tolerance"), [("f32", 5e-7), ("tf32", 5e-7), ("fp16", 2e-3), ("bf16", 1.2e-2)]
)  # fmt: skip
def test_every_rung_computes_the_network(
    tiny: Checkpoint, precision: Any, tolerance: float, channels_last: bool
) -> None:
    with TorchCudaRunner("torch-cuda", tiny, CudaVariant(precision, channels_last), "cpu") as runner:
        assert runner.description["precision"] == precision
        for seed in range(2):
            tensor = frame(tiny, seed=seed)
            error = np.abs(runner.run(tensor) - expected(tiny, tensor)).max()
            assert error <= tolerance


@pytest.mark.parametrize(
    # Levels of 8 bits. Observed: f32 0; fp16 1 in 0.7 % of the pixels, bf16 1 in 6 %, trained weights.
    ("precision", "levels", "share"), [("f32", 0, 0.0), ("fp16", 1, 0.02), ("bf16", 2, 0.12)]
)  # fmt: skip
def test_the_form_is_the_network_in_bytes(precision: Any, levels: int, share: float) -> None:
    bundled = load_checkpoint(ROOT / "checkpoints/banet-nano.safetensors")
    picture = synthetic_pair(0, 47, 64, "heldout")[0]  # an odd height: padded, and cropped again
    with (
        TorchCudaRunner("torch-cuda", bundled, CudaVariant(), "cpu") as network,
        TorchCudaRunner("torch-cuda-form", bundled, CudaVariant(precision, True, form=True), "cpu") as form,
    ):
        assert form.signature.contract == bundled.contract.as_uint8()
        assert form.description["mode"] == "eager, exact form"
        difference = np.abs(restore_frame(form, picture).astype(int) - restore_frame(network, picture))
        assert difference.max() <= levels
        assert (difference > 0).mean() <= share
        assert (
            np.abs(restore_frame(form, picture[:24]).astype(int) - restore_frame(network, picture[:24])).max() <= levels
        )


@pytest.mark.parametrize("form", [False, True])
def test_resident_work_is_that_of_a_frame_and_leaves_the_runner_as_it_was(tiny: Checkpoint, form: bool) -> None:
    with TorchCudaRunner("torch-cuda", tiny, CudaVariant(form=form), "cpu") as runner:
        picture = np.random.default_rng(0).integers(0, 256, (16, 18, 3), dtype=np.uint8)
        tensor = runner.signature.contract.encode(picture)
        restored = runner.run(tensor)
        with runner.resident(tensor.shape) as work:  # the frame of the last run still lies on the device
            np.testing.assert_array_equal(work().numpy(), restored)
        np.testing.assert_array_equal(runner.run(tensor), restored)


def test_weights_are_there_before_a_frame_runs_on_a_stream_of_its_own(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are copied and cast on PyTorch's current stream, for which the runner's does not wait."""
    waited: list[Any] = []
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)
    with TorchCudaRunner("torch-cuda", tiny, CudaVariant(), "cpu") as runner:
        monkeypatch.setattr(runner, "_stream", object())
        runner._prepare(tiny.network)
        assert waited == [torch.device("cpu")]
        monkeypatch.undo()


def test_events_stand_around_the_work(tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[Any] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            order.append(self)

        def elapsed_time(self, end: Any) -> float:
            return float(order.index(end) - order.index(self))

    monkeypatch.setattr("torch.cuda.Event", Event)
    tensor = frame(tiny)
    with (
        TorchCudaRunner("torch-cuda", tiny, CudaVariant(), "cpu") as runner,
        runner.resident(tensor.shape) as work,
        runner.events() as events,
    ):
        events.around(lambda: order.append(work()))
        assert [isinstance(one, Event) for one in order] == [True, False, True]
        assert events.elapsed_ms() == 2


def test_one_changed_weight_of_the_form_shows(tiny: Checkpoint) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    changed = copy.deepcopy(tiny.network)
    changed.get_submodule("BAM_1.BA.conv_5").weight.data[0, 0, 1, 1] += 1.0  # type: ignore[union-attr]
    pictures = []
    for network in (tiny.network, changed):
        with TorchCudaRunner("form", replace(tiny, network=network), CudaVariant(form=True), "cpu") as runner:
            pictures.append(restore_frame(runner, picture))
    assert (pictures[0] != pictures[1]).any()


def test_results_are_not_overwritten_and_only_so_many_sizes_are_kept(tiny: Checkpoint) -> None:
    with TorchCudaRunner("torch-cuda", tiny, CudaVariant(), "cpu") as runner:
        first = runner.run(frame(tiny))
        kept = first.copy()
        for k in range(SIZES_MAX + 1):
            runner.run(frame(tiny, 16, 20 + 2 * k))
        assert np.array_equal(first, kept)
        assert list(runner._buffers) == [(1, 3, 16, 20 + 2 * k) for k in range(1, SIZES_MAX + 1)]


@pytest.mark.parametrize("tf32", [False, True])
def test_the_process_gets_its_flags_back(tf32: bool) -> None:
    def flags() -> tuple[bool, ...]:
        backends = torch.backends
        return backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark

    before = flags()
    with torch_cuda_runner._flags(tf32):
        assert flags() == (tf32, tf32, True)
    assert flags() == before


@pytest.mark.parametrize(
    ("variant", "patches", "match"),
    [
        (CudaVariant(), {"version.cuda": None}, "build without CUDA"),
        (CudaVariant(), {"cuda.is_available": lambda: False}, "does not reach the GPU Old GPU"),
        (CudaVariant("tf32"), {}, "no TF32"),
        (CudaVariant("bf16"), {}, "no bfloat16"),
        (CudaVariant("fp16", compiled=True), {}, "neither gcc nor clang; install gcc"),
    ],
)
def test_what_is_missing_is_told(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, variant: CudaVariant, patches: Any, match: str
) -> None:
    driver = product.Driver(13000, (product.Device("New GPU", "sm90", 1), product.Device("Old GPU", "sm75", 1)))
    monkeypatch.setattr(product, "probe_driver", lambda _=None: driver)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    for name, value in ({"version.cuda": "13.0", "cuda.is_available": lambda: True} | patches).items():
        monkeypatch.setattr(f"torch.{name}", value)
    with pytest.raises(MissingRuntimeError, match=match):
        TorchCudaRunner("torch-cuda", tiny, variant, "cuda:1")


class Failing(torch.nn.Module):
    """Meets an error of CUDA, as of a kernel that wrote elsewhere."""

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might")


class FailingStream:
    def synchronize(self) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might")


def test_an_error_that_stays_is_told_in_a_sentence_and_the_memory_given_back(tiny: Checkpoint) -> None:
    told = "The GPU fails: CUDA error: an illegal memory access was encountered. It .* restart it"
    runner = TorchCudaRunner("torch-cuda", replace(tiny, network=Failing()), CudaVariant(), "cpu")
    with pytest.raises(CrashError, match=told):
        runner.run(frame(tiny))
    assert runner._buffers
    runner._stream = FailingStream()
    with pytest.raises(CrashError, match=told):
        runner.close()
    assert (runner._buffers, runner._network) == ({}, None)
    runner.close()  # a second time is nothing
