"""Fine-tuning in 8 bits: the grid is the one that quantisation uses, gradients pass, and the checkpoint stays plain."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_banet import TINY, asymmetric
from torch import nn

from unblur.core.errors import InputError
from unblur.networks import load_checkpoint, save_checkpoint
from unblur.training.config import FakeQuantise, load_config
from unblur.training.fake_quantise import Seen, fake_quantise, observe
from unblur.training.loop import train

WriteConfig = Callable[..., Path]


def by_hand(conv: nn.Conv2d, x: torch.Tensor, ends: Seen, per_channel: bool) -> torch.Tensor:
    scale = (ends.high - ends.low) / 255
    zero = round(-ends.low / scale)
    data = ((x / scale).round() + zero).clamp(0, 255).sub(zero) * scale
    weight = conv.weight.detach()
    steps = weight.abs().amax((1, 2, 3), keepdim=True) if per_channel else weight.abs().max()
    steps = steps / 127
    return nn.functional.conv2d(data, (weight / steps).round() * steps, conv.bias, padding=conv.padding)


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_convolution_computes_on_the_grid(per_channel: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(5, 3, 1))
    x = torch.randn(1, 3, 16, 16)
    seen = observe(network, [x])
    assert list(seen) == ["1"]  # neither the first nor the last
    data = network[0](x).detach()
    assert seen["1"] == Seen(min(0.0, float(data.min())), max(0.0, float(data.max())))
    expected = by_hand(network[1], data, seen["1"], per_channel)
    exact = network[1](data)
    fake_quantise(network, seen, FakeQuantise(per_channel=per_channel))
    torch.testing.assert_close(network[1](data), expected, atol=1e-5, rtol=0)
    assert (network[1](data) - exact).abs().max() > 1e-3  # it is not the convolution it was


def test_gradients_pass_inside_the_range_and_stop_outside() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    fake_quantise(network, {"1": Seen(-1.0, 1.0)}, FakeQuantise(activation="s8"))
    x = torch.tensor([0.3, 5.0]).reshape(1, 1, 1, 2).requires_grad_()
    network[1](x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    inside, outside = x.grad.flatten().tolist()
    assert inside == pytest.approx(float(network[1].weight.detach()), rel=0.01)
    assert outside == 0
    assert float(network[1].weight.grad) != 0


def test_of_a_banet_the_maps_are_quantised_and_the_strips_are_not() -> None:
    network = asymmetric(TINY).eval()
    names = observe(network, [torch.rand(1, 3, 48, 64) - 0.5])
    convolutions = {name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    strips = ("conv_1_h", "conv_1_w", "conv_3", "conv_5", "conv_7")
    of_strips = {f"BAM_{k + 1}.BA.{name}" for k in range(network.spec.depth) for name in strips}
    assert of_strips < convolutions
    # Exactly: all but those of strips, the first and the last; transposed ones are no Conv2d.
    assert set(names) == convolutions - of_strips - {"en_layer1.0", "de_layer3.0"}


@pytest.fixture
def tuned(tmp_path: Path, write_config: WriteConfig) -> Callable[..., Path]:
    from unblur.networks import build_network

    torch.manual_seed(1)
    network = build_network("banet_nano")
    save_checkpoint(network, tmp_path / "first.safetensors")
    plain = write_config(more=f'begin_with = "{tmp_path / "first.safetensors"}"\n')

    def write(more: str) -> Path:
        path = tmp_path / "tuned.toml"
        path.write_text(plain.read_text() + more)
        return path

    return write


def test_a_run_gives_a_plain_checkpoint_that_another_grid_would_not_give(
    tmp_path: Path, tuned: Callable[..., Path]
) -> None:
    runs = {}
    for name, more in {
        "plain": "",
        "u8": "\n[fake_quantise]\nsamples = 2\n",
        "again": "\n[fake_quantise]\nsamples = 2\n",
        "s8": '\n[fake_quantise]\nsamples = 2\nactivation = "s8"\nper_channel = false\n',
    }.items():
        runs[name] = load_file(train(load_config(tuned(more)), tmp_path / name))
    load_checkpoint(tmp_path / "u8" / "banet-nano.safetensors")
    same = {a: all(torch.equal(runs["u8"][k], runs[a][k]) for k in runs["u8"]) for a in runs}
    assert same == {"plain": False, "u8": True, "again": True, "s8": False}


def test_a_resumed_run_has_the_grid_of_the_first_weights(tmp_path: Path, tuned: Callable[..., Path]) -> None:
    config = load_config(tuned("\n[fake_quantise]\nsamples = 2\n"))
    whole = load_file(train(config, tmp_path / "whole"))
    import unblur.training.loop as loop

    step, calls = loop._step, []

    def dying(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "cut")
    cut = load_file(train(copy.deepcopy(config), tmp_path / "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_there_must_be_something_to_tune(tmp_path: Path, write_config: WriteConfig) -> None:
    path = write_config()
    path.write_text(path.read_text() + "\n[fake_quantise]\n")
    with pytest.raises(InputError, match="begin_with"):
        load_config(path)


def test_a_network_of_nan_is_refused() -> None:
    network = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(3)))
    with torch.no_grad():
        network[0].weight.fill_(float("nan"))
    with pytest.raises(InputError, match="1 reads a value that is not finite"):
        observe(network, [torch.rand(1, 1, 4, 4)])
