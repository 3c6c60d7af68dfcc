"""`unblur train`: train a network, or measure what a checkpoint is worth."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unblur.cli.door import Arguments, door, inputs_of
from unblur.cli.output import Output
from unblur.cli.weights import add_channel_order
from unblur.core.artefacts import json_with, protect, write_json
from unblur.core.console import SILENT
from unblur.core.errors import InputError


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of training/train_network.py and of `unblur train`."""
    parser = Arguments(
        "unblur train",
        "Train a network on pairs or on drawn scenes; run it again to resume.",
        "unblur train --config training/configs/smoke.toml",
        "unblur train --config training/configs/smoke.toml --evaluate w.safetensors --real GoPro/test",
    )
    add = parser.add_argument
    add("--config", type=Path, required=True, help="a TOML file such as those in training/configs")
    add("--output", type=Path, help="folder of the run; artifacts/training/<name of the configuration> if not given")
    add_channel_order(parser)
    add("--evaluate", type=Path, metavar="CHECKPOINT", help="do not train: measure this checkpoint")
    add("--real", type=Path, metavar="DIR", help="with --evaluate: measure on these real pairs too (GoPro layout)")
    add("--report", type=Path, help="with --evaluate: a JSON file to write it to as well")
    options = parser.parse_args(argv)
    if options.evaluate is None and (options.real or options.report):
        raise InputError("--real and --report belong to --evaluate CHECKPOINT; a training measures nothing by itself.")
    if options.evaluate is not None:
        if options.report:
            ours = json_with("checkpoint_sha256", "synthetic")
            protect({options.report: ours}, inputs_of(options, "report", "output"))
        return _evaluate(options, Output(options))
    return _train(options.config, options.channel_order, options.output, Output(options))


def _train(config_path: Path, channel_order: str | None, output: Path | None, out: Output) -> int:
    # Imported here, because `--help` must not load torch.
    from unblur.networks.checkpoints import load_checkpoint
    from unblur.training.config import load_config
    from unblur.training.loop import train
    from unblur.training.pictures import draw_crops, draw_curve

    config = load_config(config_path, channel_order)
    output = output or Path("artifacts/training") / config_path.stem
    checkpoint = output / f"{config.network.replace('_', '-')}.safetensors"
    _protect_run(output, checkpoint, [config_path, config.begin_with])
    leads = os.environ.get("RANK", "0") == "0"  # torchrun starts one of us per device; one of them speaks
    checkpoint = train(config, output, out.progress if leads else SILENT)
    if leads:
        draw_curve(json.loads((output / "log.json").read_text())["curve"], output / "curve.png")
        draw_crops(load_checkpoint(checkpoint, config.channel_order), config.evaluation, output / "crops.png")
        made = {"checkpoint": checkpoint, "curve": output / "curve.png", "crops": output / "crops.png"}
        for name, path in made.items():
            out.say(f"{name:<11} {path}")
        out.figures(made)
    return 0


def _protect_run(output: Path, checkpoint: Path, inputs: Sequence[Path | None]) -> None:
    """What a run writes first, config.json, tells whether the others that stand there are a run's."""
    is_config = json_with("network", "stages")

    def is_run(_: Path) -> bool:
        return (output / "config.json").is_file() and is_config(output / "config.json")

    others = [output / name for name in ("state.pt", "log.json", "curve.png", "crops.png")]
    protect({output / "config.json": is_config, **dict.fromkeys([*others, checkpoint], is_run)}, inputs)


def _evaluate(options: argparse.Namespace, out: Output) -> int:
    from unblur.networks.checkpoints import load_checkpoint
    from unblur.training.config import load_config
    from unblur.training.evaluation import evaluate

    config = load_config(options.config, options.channel_order)
    loaded = load_checkpoint(options.evaluate, config.channel_order, out.progress)
    if loaded.name != config.network:
        raise InputError(
            f"{options.evaluate} is a {loaded.name}, and {options.config} is of {config.network}: name a configuration "
            "of that network."
        )
    result = evaluate(loaded, config.evaluation, options.real, out.progress)
    for name in ("synthetic", "real"):
        if name in result:
            out.say(describe_part(name, result[name]))
    if options.report:
        write_json(options.report, result)
        out.say(f"report      {options.report}")
    out.figures(result)
    return 0


def describe_part(name: str, part: dict[str, Any]) -> str:
    """A line on one part ("synthetic", "real") of an evaluation."""
    from unblur.metrics.decibels import decibels_from_json, decibels_text

    before, after = (decibels_text(decibels_from_json(part[key])) for key in ("blurred_psnr_db", "restored_psnr_db"))
    gain, worst = (decibels_text(decibels_from_json(part[key]), signed=True) for key in ("gain_db", "worst_gain_db"))
    apart = f"; {part['identical']} identical to the truth and not in the mean" if part["identical"] else ""
    return (
        f"{name:<11} {part['count']} pairs: {before} dB blurred, {after} dB restored, "
        f"gain {gain} dB (worst {worst}, better in {part['better']}){apart}"
    )
