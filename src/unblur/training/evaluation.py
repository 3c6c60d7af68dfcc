"""What a checkpoint is worth: PSNR against the truth, before and after, on pictures it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from unblur.core.artefacts import file_digest
from unblur.core.console import SILENT, Progress
from unblur.images.contract import Frame, PixelContract
from unblur.images.pairs import find_pairs, read_pair
from unblur.images.synthetic import VERSION, synthetic_pair
from unblur.metrics.decibels import (
    decibels_from_json,
    decibels_to_json,
    gain_decibels,
    loss_decibels,
    mean_decibels,
)
from unblur.metrics.quality import psnr_db
from unblur.networks.checkpoints import Checkpoint
from unblur.training.config import Evaluation


def restore(network: nn.Module, contract: PixelContract, frame: Frame) -> Frame:
    """Run a network on one frame, (H, W, 3) RGB uint8 -> the same."""
    with torch.inference_mode():
        output = network(torch.from_numpy(contract.encode(frame)))
    return contract.decode(output.float().numpy(), *frame.shape[:2])


def evaluate(loaded: Checkpoint, what: Evaluation, real: Path | None, progress: Progress = SILENT) -> dict[str, Any]:
    """Quality of a checkpoint on held-out synthetic pairs and, given a folder in the GoPro layout, on its test pairs.

    PSNR is that of the papers: 8-bit RGB, peak 255, per picture, then averaged. The report holds no time and no
    machine, so that the same checkpoint gives the same report. Raises InputError as reading does.
    """
    rows = []
    for k in progress.track(range(what.pairs), "held-out pairs", what.pairs):
        blurred, sharp = synthetic_pair(what.seed + k, what.side_px, what.side_px, "heldout")
        rows.append({"seed": what.seed + k} | _row(loaded.network, loaded.contract, blurred, sharp))
    report: dict[str, Any] = {
        "checkpoint": loaded.path.name,
        "checkpoint_sha256": loaded.digest,
        "checkpoint_bytes": loaded.size_bytes,
        "channel_order": loaded.contract.channel_order,
        "network": loaded.name,
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
        "synthetic": {"side_px": what.side_px, "source_version": VERSION} | _summary(rows),
    }
    if real is not None:
        pairs = find_pairs(real, "gopro", "test", progress)
        rows = []
        for pair in progress.track(pairs, "real pairs", len(pairs)):
            blurred, sharp = read_pair(pair)
            name = pair.blurred.relative_to(real).as_posix()
            digests = {"blurred_sha256": file_digest(pair.blurred), "sharp_sha256": file_digest(pair.sharp)}
            rows.append({"pair": name} | digests | _row(loaded.network, loaded.contract, blurred, sharp))
        report["real"] = _summary(rows)
    return report


def _row(network: nn.Module, contract: PixelContract, blurred: Frame, sharp: Frame) -> dict[str, Any]:
    before = psnr_db(blurred, sharp, peak=255.0)
    after = psnr_db(restore(network, contract, blurred), sharp, peak=255.0)
    return {"blurred_psnr_db": _rounded(before), "restored_psnr_db": _rounded(after)}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means are over finite values, the gain over pairs where both are; `identical` counts what is not in it.

    A pair that came as its truth and did not stay it has an infinite loss, and so has the mean (`Loss`).
    """
    before, after = ([decibels_from_json(row[key]) for row in rows] for key in ("blurred_psnr_db", "restored_psnr_db"))
    gains = [gain_decibels(a, b) for a, b in zip(before, after, strict=True)]
    loss = loss_decibels(before, after)
    return {
        "pairs": rows,
        "count": len(rows),
        "identical": len(rows) - loss.compared,
        "blurred_psnr_db": _rounded(mean_decibels(before).db),
        "restored_psnr_db": _rounded(mean_decibels(after).db),
        "gain_db": _rounded(0.0 - loss.db),
        "worst_gain_db": _rounded(min(gains)),
        "better": sum(gain > 0 for gain in gains),
    }


def _rounded(value: float) -> float | str | None:
    return decibels_to_json(round(value, 4))
