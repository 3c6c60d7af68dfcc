"""Networks, one file per paper, and the loader that recognises them from a checkpoint."""

from unblur.networks.checkpoints import load_checkpoint, load_network, save_checkpoint
from unblur.networks.registry import build_network

__all__ = ["build_network", "load_checkpoint", "load_network", "save_checkpoint"]
