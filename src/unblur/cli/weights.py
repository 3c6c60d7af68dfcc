"""The options that name a checkpoint: the same for every door that takes one, so that none lacks half of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from unblur.core.console import Progress

if TYPE_CHECKING:
    from unblur.networks.checkpoints import Checkpoint


def add_checkpoint(
    parser: argparse.ArgumentParser,
    text: str = "weights; the bundled demonstration network if left out",
    *,
    required: bool = False,
) -> None:
    """Add `--checkpoint` and what belongs to it."""
    parser.add_argument("--checkpoint", type=Path, required=required, help=text)
    add_channel_order(parser)


def add_channel_order(parser: argparse.ArgumentParser) -> None:
    """Add `--channel-order`; left out, it is that of the published weights of the network's family."""
    parser.add_argument(
        "--channel-order",
        choices=("bgr", "rgb"),
        help="that the weights were trained with, which nothing in them tells (default: as the papers' weights)",
    )


def open_checkpoint(arguments: argparse.Namespace, progress: Progress) -> Checkpoint:
    """Load what the options name, else the bundled weights. Raises InputError as `load_checkpoint`."""
    # Not above: `--help` loads no torch.
    from unblur.networks.checkpoints import load_checkpoint
    from unblur.pipeline.places import bundled_checkpoint

    return load_checkpoint(arguments.checkpoint or bundled_checkpoint(), arguments.channel_order, progress)
