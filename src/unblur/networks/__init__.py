"""Networks, one folder a paper, and the loader that recognises them from a checkpoint."""

from unblur.networks.checkpoints import load_checkpoint, load_network, save_checkpoint
from unblur.networks.registry import build_network, registered

__all__ = ["build_network", "load_checkpoint", "load_network", "registered", "save_checkpoint"]
