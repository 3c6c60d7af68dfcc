"""`unblur train`: train a network, or measure what a checkpoint is worth."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unblur.cli.door import Arguments, door
from unblur.cli.weights import add_channel_order
from unblur.core.artefacts import write_json
from unblur.core.console import SILENT, ConsoleProgress
from unblur.core.errors import InputError


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of training/train_network.py and of `unblur train`."""
    parser = Arguments("unblur train", "Train a network on pairs or on drawn scenes; run it again to resume.")
    add = parser.add_argument
    add("--config", type=Path, required=True, help="a TOML file such as those in training/configs")
    add("--output", type=Path, help="folder of the run; artifacts/training/<name of the configuration> if not given")
    add_channel_order(parser)
    add("--evaluate", type=Path, metavar="CHECKPOINT", help="do not train: measure this checkpoint")
    add("--real", type=Path, metavar="DIR", help="with --evaluate: measure on these real pairs too (GoPro layout)")
    add("--report", type=Path, help="with --evaluate: the JSON file to write; beside the checkpoint if not given")
    options = parser.parse_args(argv)
    if options.evaluate is None and (options.real or options.report):
        raise InputError("--real and --report belong to --evaluate CHECKPOINT; a training measures nothing by itself.")
    if options.evaluate is not None:
        return _evaluate(options.config, options.evaluate, options.channel_order, options.real, options.report)
    return _train(options.config, options.channel_order, options.output)


def _train(config_path: Path, channel_order: str | None, output: Path | None) -> int:
    # Imported here, because `--help` must not load torch.
    from unblur.networks.checkpoints import load_checkpoint
    from unblur.training.config import load_config
    from unblur.training.loop import train
    from unblur.training.pictures import draw_crops, draw_curve

    config = load_config(config_path, channel_order)
    output = output or Path("artifacts/training") / config_path.stem
    leads = os.environ.get("RANK", "0") == "0"  # torchrun starts one of us per device; one of them speaks
    progress = ConsoleProgress() if leads else SILENT
    checkpoint = train(config, output, progress)
    if leads:
        draw_curve(json.loads((output / "log.json").read_text())["curve"], output / "curve.png")
        draw_crops(load_checkpoint(checkpoint, config.channel_order), config.evaluation, output / "crops.png")
        print(f"checkpoint  {checkpoint}\ncurve       {output / 'curve.png'}\ncrops       {output / 'crops.png'}")
    return 0


def _evaluate(
    config_path: Path, checkpoint: Path, channel_order: str | None, real: Path | None, report: Path | None
) -> int:
    from unblur.networks.checkpoints import load_checkpoint
    from unblur.training.config import load_config
    from unblur.training.evaluation import evaluate

    config, progress = load_config(config_path, channel_order), ConsoleProgress()
    loaded = load_checkpoint(checkpoint, config.channel_order, progress)
    result = evaluate(loaded, config.evaluation, real, progress)
    target = report or checkpoint.with_suffix(".json")
    write_json(target, result)
    for name in ("synthetic", "real"):
        if name in result:
            _print_summary(name, result[name])
    print(f"report      {target}")
    return 0


def _print_summary(name: str, part: dict[str, Any]) -> None:
    before, after, gain = part["blurred_psnr_db"], part["restored_psnr_db"], part["gain_db"]
    print(
        f"{name:<11} {part['count']} pairs: {before:.2f} dB blurred, {after:.2f} dB restored, "
        f"gain {gain:+.2f} dB (worst {part['worst_gain_db']:+.2f}, better in {part['better']})"
    )
