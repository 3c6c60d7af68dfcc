"""A network by name with random weights: enough to measure speed, which does not depend on them."""

from __future__ import annotations

from pathlib import Path

import torch

from unblur.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from unblur.networks.registry import build_network


def random_checkpoint(name: str, seed: int, folder: Path) -> Checkpoint:
    """Write the network's weights of this seed into `folder` and load them: the same seed, the same digest.

    Raises InputError for an unknown network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(name)
    path = folder / f"{name}-random-{seed}.safetensors"
    save_checkpoint(network, path)
    return load_checkpoint(path)
