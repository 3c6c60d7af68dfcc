"""How BA-Net v1 is trained, as far as its code says (the text is silent): half the squared error, short gradients."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from torch import Tensor

from unblur.core.config import Section
from unblur.networks.banet.network import BlurAwareNetwork
from unblur.networks.banet.recipe import near_identity
from unblur.networks.recipe import Adam, Supervised


class Settings(Section):
    """The keys of a training configuration that are v1's own."""

    start: Literal["torch", "identity"] = "torch"
    optimiser: Adam = Adam(max_norm=0.02)


def recipe(network: BlurAwareNetwork, settings: Mapping[str, Any]) -> Supervised:
    """`start` as in BANet's recipe."""
    own = Settings.model_validate({key: settings[key] for key in Settings.model_fields})
    first = partial(near_identity, network, settings["seed"]) if own.start == "identity" else None
    return Supervised(network, settings, own.optimiser, half_mse, first)


def half_mse(restored: Tensor, truth: Tensor) -> Tensor:
    """Half the mean squared error of the output as it is, not clamped; in float32."""
    return 0.5 * (restored.float() - truth.float()).square().mean()
