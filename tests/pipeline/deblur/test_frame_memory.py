"""An estimate from the network's own sizes, and a refusal that names what would fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unblur.core.errors import InputError
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.pipeline.deblur import frame_memory
from unblur.pipeline.deblur.frame_memory import PEAKS, FrameMemory, largest_activation


def test_the_largest_activation_is_that_of_a_layer_not_of_the_result() -> None:
    down, up = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Upsample(scale_factor=2)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), down, up, nn.Conv2d(16, 3, 3, padding=1))
    assert largest_activation(network) == 4 * 16  # of the upsampled layer
    assert not any(module._forward_hooks for module in network.modules())


def test_it_grows_with_the_stem_of_a_banet() -> None:
    narrow, wide = (BANet(BANetSpec(depth=1, stem_width=w, width=8, fuse_width=4)) for w in (16, 32))
    assert largest_activation(narrow) == 64
    assert largest_activation(wide) == 128


@pytest.mark.parametrize("engine", ["openvino", "openvino-int8", "onnxruntime", "torch", "torch-bf16"])
def test_bytes_follow_the_pixels(engine: str) -> None:
    memory = FrameMemory(engine, 64.0, 0)
    one, four = memory.bytes(1000, 1000), memory.bytes(2000, 2000)
    assert one is not None
    assert four == 4 * one == 4e6 * 64 * PEAKS[engine.split("-")[0]]


def test_an_engine_that_nobody_measured_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_memory, "available_bytes", lambda: 0)
    for engine in ("tensorrt", "tensorrt-rtx-fp16", "torch-cuda-fp16", "onnxruntime-cuda"):
        memory = FrameMemory(engine, 64.0, 0)
        assert memory.bytes(9000, 9000) is None
        memory.refuse(9000, 9000)


def test_what_cannot_fit_is_refused_with_an_engine_that_would(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = FrameMemory("openvino", 64.0, held=100)
    monkeypatch.setattr(frame_memory, "resident_bytes", lambda: 100)
    monkeypatch.setattr(frame_memory, "available_bytes", lambda: 7_000_000_000)
    memory.refuse(2000, 3000)
    with pytest.raises(
        InputError,
        match=r"3000x4000 takes about 11\.6 GB .* openvino, and 7\.0 GB are free; take --engine torch \(5\.9 GB\)",
    ):
        memory.refuse(3000, 4000)
    monkeypatch.setattr(frame_memory, "resident_bytes", lambda: 5_000_000_100)  # taken by the frames before, used again
    memory.refuse(3000, 4000)
    monkeypatch.setattr(frame_memory, "resident_bytes", lambda: 0)
    monkeypatch.setattr(frame_memory, "available_bytes", lambda: 5_000_000_000)
    with pytest.raises(InputError, match=r"5\.0 GB are free; free some, or split"):
        memory.refuse(3000, 4000)


def test_the_probe_is_small_and_changes_nothing() -> None:
    network = BANet(BANetSpec(depth=1, stem_width=2, width=4, fuse_width=3)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    largest_activation(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
