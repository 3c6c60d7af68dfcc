"""The curve of a run and a few crops before and after, as PNG files. matplotlib is imported here only, when used."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unblur.core.artefacts import write_bytes
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.decibels import decibels_text
from unblur.metrics.quality import psnr_db
from unblur.networks.checkpoints import Checkpoint
from unblur.training.config import Evaluation
from unblur.training.evaluation import restore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CROPS = 6
GAP_PX = 4
NARROWEST_PX = 128
"""Smaller crops are magnified by a whole number: their captions need this much."""

LABEL_PX, CAPTION_PX, FONT_PX = 74, 22, 13

MANY_POINTS = 40
"""Fewer are drawn as dots, and have no running mean: there is nothing to smooth."""


def draw_curve(curve: list[dict[str, Any]], path: Path) -> None:
    """Loss and learning rate over the iterations. `curve`: rows with iteration, loss, lr."""
    # Written in memory first: these writers do not say which error the disk gave.
    png = io.BytesIO()
    curve_figure(curve).savefig(png, format="png", dpi=110)
    write_bytes(path, png.getvalue())


def curve_figure(curve: list[dict[str, Any]]) -> Figure:
    """The figure of `draw_curve`, which looks right with one point and with thousands."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    iterations = [row["iteration"] for row in curve]
    losses = np.array([row["loss"] for row in curve])
    if len(curve) < MANY_POINTS:
        axes.plot(iterations, losses, color="C0", marker="o", markersize=4, label="loss, mean since the last point")
    else:
        axes.plot(iterations, losses, color="0.75", linewidth=0.8, label="loss, mean since the last point")
        window = len(losses) // 20
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.plot(iterations[window - 1 :], smooth, color="C0", label=f"running mean of {window} points")
    axes.set(xlabel="iteration", ylabel="loss", title="training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, 1.02 * max(iterations, default=1))
    axes.legend(loc="upper right")
    rates = axes.twinx()
    rates.plot(
        iterations, [row["lr"] for row in curve], color="C1", linestyle=":", marker="." if len(curve) == 1 else ""
    )
    rates.set_ylim(0, 1.1 * max((row["lr"] for row in curve), default=0.0) or 1.0)
    rates.set_ylabel("learning rate (dotted)")
    return figure


def draw_crops(loaded: Checkpoint, what: Evaluation, path: Path) -> None:
    """Held-out synthetic crops, one column each: blurred, restored, sharp from top to bottom, with their PSNR."""
    scale = max(1, -(-NARROWEST_PX // what.side_px))
    step = what.side_px * scale + GAP_PX
    count = min(CROPS, what.pairs)
    sheet = Image.new("RGB", (LABEL_PX + count * step, 3 * step + CAPTION_PX), "black")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_PX)
    for row, name in enumerate(("blurred", "restored", "sharp")):
        draw.text((6, row * step + step // 2 - FONT_PX), name, fill="white", font=font)
    for column in range(count):
        blurred, sharp = synthetic_pair(what.seed + column, what.side_px, what.side_px, "heldout")
        restored = restore(loaded.network, loaded.contract, blurred)
        left = LABEL_PX + column * step
        for row, frame in enumerate((blurred, restored, sharp)):
            large = frame.repeat(scale, axis=0).repeat(scale, axis=1)
            sheet.paste(Image.fromarray(np.ascontiguousarray(large)), (left, row * step))
        before, after = (psnr_db(frame, sharp, peak=255) for frame in (blurred, restored))
        caption = f"{decibels_text(before, 1)} to {decibels_text(after, 1)} dB"
        draw.text((left, 3 * step + 2), caption, fill="white", font=font)
    png = io.BytesIO()
    sheet.save(png, "PNG")
    write_bytes(path, png.getvalue())
