"""BAG against a naive second implementation, the sizes of its specification, and what it refuses."""

from __future__ import annotations

import naive_bag
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unblur.core.errors import InputError
from unblur.networks.bag.network import BAGSpec, Critic, Generator

TOLERANCE = 1e-12
"""Largest |difference| in float64. Observed: 2.3e-15 on outputs to 2."""

BROKEN = 1e-6
"""What every changed weight must exceed. Observed: 9e-4 at least."""

SPEC = BAGSpec(stem=2, depth=2, layers=2, growth=3)
DEAD = ("encoder", "dense", "transition", "decoder.0", "decoder.1")
"""Their biases go into an instance norm, which takes any constant away."""

State = dict[str, Tensor]


def asymmetric(network: nn.Module, seed: int = 7) -> nn.Module:
    """Float64 weights, every element drawn alone."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.double().parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(draw * (1.2 / parameter[0].numel() ** 0.5) if parameter.ndim == 4 else 0.3 * draw)
    return network.eval()


def frame(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand((1, 3, height, width), generator=generator, dtype=torch.float64) * 2 - 1


def arrays(network: nn.Module) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in network.state_dict().items()}


@pytest.mark.parametrize(
    ("spec", "height", "width"),
    [
        (SPEC, 12, 20),
        (BAGSpec(stem=1, depth=1, layers=1, growth=1), 8, 44),
        (BAGSpec(stem=1, depth=3, layers=3, growth=2), 28, 8),
        (BAGSpec(stem=1, depth=2, layers=2, growth=1), 4, 4),
    ],
)
@torch.inference_mode()
def test_agrees_with_the_naive_network(spec: BAGSpec, height: int, width: int) -> None:
    network, x = asymmetric(Generator(spec)), frame(height, width)
    expected = naive_bag.bag(x[0].numpy(), arrays(network))
    assert np.abs(network(x)[0].numpy() - expected).max() <= TOLERANCE
    assert np.abs(expected - x[0].numpy()).mean() > 0.1, "parity on dead activations would prove nothing"


@torch.inference_mode()
def test_the_critic_agrees_with_the_naive_one() -> None:
    critic, x = asymmetric(Critic(2)), frame(24, 36)
    assert np.abs(critic(x)[0].numpy() - naive_bag.critic(x[0].numpy(), arrays(critic))).max() <= TOLERANCE


@pytest.mark.parametrize("key", sorted(Generator(SPEC).state_dict()))
@torch.inference_mode()
def test_a_changed_weight_breaks_parity_unless_it_is_dead(key: str) -> None:
    network, x = asymmetric(Generator(SPEC)), frame(12, 20)
    before = network(x)
    weight = network.get_parameter(key)
    weight.view(-1)[weight.numel() // 3] += 0.05
    changed = float((network(x) - before).abs().max())
    dead = key.endswith("bias") and any(name in key for name in DEAD)
    assert changed < TOLERANCE if dead else changed > BROKEN


def test_parameters_of_the_published_widths() -> None:
    with torch.device("meta"):
        network, critic = Generator(BAGSpec()), Critic()

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert (count(network), count(critic)) == (8_245_071, 2_764_737)
    assert count(network.encoder) == 378_496
    assert [count(block) for block in network.blocks] == [1_872_083] * 4
    assert count(network.decoder) == 378_243


def test_shapes_of_the_published_widths() -> None:
    shapes: list[tuple[int, ...]] = []
    network = Generator(BAGSpec())
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    with torch.inference_mode():
        network(torch.rand(1, 3, 16, 12))
    dense = [(72, 4, 3)] * 6 + [(256, 4, 3), (1, 4, 3)]
    encoder = [(64, 16, 12), (128, 8, 6), (256, 4, 3)]
    assert shapes == [*encoder, *dense * 4, (128, 8, 6), (64, 16, 12), (3, 16, 12)]
    assert [c.in_channels for c in network.blocks[0].dense] == [256, 328, 400, 472, 544, 616]


@pytest.mark.parametrize("shape", [(1, 3, 10, 12), (1, 3, 12, 10), (1, 3, 0, 8), (1, 1, 8, 8), (3, 8, 8)])
def test_refuses_sizes_that_it_cannot_take(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="multiples of 4, got"):
        Generator(SPEC)(torch.zeros(shape))


def test_refuses_a_spec_without_layers() -> None:
    with pytest.raises(InputError, match="layers is 0"):
        BAGSpec(layers=0)
