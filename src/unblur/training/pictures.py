"""The curve of a run and a few crops before and after, as PNG files. matplotlib is imported here only, when used."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unblur.core.artefacts import write_bytes
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import Checkpoint
from unblur.training.config import Evaluation
from unblur.training.evaluation import restore

CROPS = 6
GAP_PX = 4


def draw_curve(curve: list[dict[str, Any]], path: Path) -> None:
    """Loss and learning rate over the iterations. `curve`: rows with iteration, loss, lr."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    iterations = [row["iteration"] for row in curve]
    losses = np.array([row["loss"] for row in curve])
    axes.plot(iterations, losses, color="0.75", linewidth=0.8, label="loss, mean since the last point")
    window = max(1, len(losses) // 20)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axes.plot(iterations[window - 1 :], smooth, color="C0", label=f"running mean of {window} points")
    axes.set(xlabel="iteration", ylabel="Charbonnier + FFT-L1", title="training loss")
    axes.legend(loc="upper right")
    rates = axes.twinx()
    rates.plot(iterations, [row["lr"] for row in curve], color="C1", linestyle=":")
    rates.set_ylabel("learning rate (dotted)")
    # Written in memory first: these writers do not say which error the disk gave.
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    write_bytes(path, png.getvalue())


def draw_crops(loaded: Checkpoint, what: Evaluation, path: Path) -> None:
    """Held-out synthetic crops, one column each: blurred, restored, sharp from top to bottom."""
    columns = []
    for k in range(min(CROPS, what.pairs)):
        blurred, sharp = synthetic_pair(what.seed + k, what.side_px, what.side_px, "heldout")
        column = [blurred, restore(loaded.network, loaded.contract, blurred), sharp]
        columns.append(np.vstack([np.pad(frame, ((0, GAP_PX), (0, GAP_PX), (0, 0))) for frame in column]))
    png = io.BytesIO()
    Image.fromarray(np.hstack(columns)).save(png, "PNG")
    write_bytes(path, png.getvalue())
