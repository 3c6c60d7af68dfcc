"""The pictures of a training: whole with one point, captioned crops of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import load_checkpoint
from unblur.training.config import Evaluation
from unblur.training.pictures import CAPTION_PX, LABEL_PX, MANY_POINTS, curve_figure, draw_crops


@pytest.mark.parametrize(("points", "lines"), [(1, 1), (2, 1), (MANY_POINTS - 1, 1), (MANY_POINTS, 2), (500, 2)])
def test_a_curve_of_any_length_shows_every_point(points: int, lines: int) -> None:
    pytest.importorskip("matplotlib", reason="needs the package matplotlib")
    curve = [{"iteration": 10 * (k + 1), "loss": 1 / (k + 1), "lr": 1e-3} for k in range(points)]
    losses, rates = curve_figure(curve).axes
    assert len(losses.lines) == lines
    assert len(losses.lines[0].get_xdata()) == points
    assert (losses.lines[0].get_marker() == "o") == (lines == 1), "a point alone has no line that could be seen"
    assert losses.get_xlim()[1] > 10 * points
    assert rates.get_ylim() == pytest.approx((0, 1.1e-3)), "a constant rate is a line, not a scale of its rounding"


@pytest.mark.parametrize(("side", "scale"), [(32, 4), (160, 1)])
def test_crops_are_labelled_and_keep_their_pixels(tiny_path: Path, tmp_path: Path, side: int, scale: int) -> None:
    what = Evaluation(pairs=2, side_px=side)
    draw_crops(load_checkpoint(tiny_path), what, tmp_path / "crops.png")
    sheet = np.asarray(Image.open(tmp_path / "crops.png"))
    step = side * scale + 4
    assert sheet.shape == (3 * step + CAPTION_PX, LABEL_PX + 2 * step, 3)
    blurred, sharp = synthetic_pair(what.seed + 1, side, side, "heldout")
    for row, frame in ((0, blurred), (2, sharp)):
        shown = sheet[row * step : row * step + side * scale, LABEL_PX + step : LABEL_PX + step + side * scale]
        assert np.array_equal(shown[::scale, ::scale], frame)
    for row in range(3):
        assert sheet[row * step : (row + 1) * step, :LABEL_PX].max() == 255, "a label beside each row"
    assert sheet[3 * step :, LABEL_PX : LABEL_PX + step].max() == 255
    assert sheet[3 * step :, LABEL_PX + step :].max() == 255
