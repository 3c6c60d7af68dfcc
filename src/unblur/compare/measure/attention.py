"""What the reference looks at on the frames that matter, for the page: where its paper shows such maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from unblur.compare.measure.crops import jpeg_uri
from unblur.compare.measure.frame_pass import Notes
from unblur.compare.measure.frames import FrameFile
from unblur.compare.parts import Attention, Crop
from unblur.core.console import SILENT, Progress
from unblur.engines.runner import Runner
from unblur.images.contract import Frame
from unblur.metrics.decibels import decibels_text, gain_decibels
from unblur.networks.attention import picture_of, range_text, watched
from unblur.networks.checkpoints import Checkpoint

SIDE = 320
"""Longest side of a map on the page, in pixels: gates are coarser than a frame, and a network has up to two dozen."""


def attention_of(
    checkpoint: Checkpoint, runner: Runner, frames: Sequence[FrameFile], notes: Notes, progress: Progress = SILENT
) -> tuple[Attention, ...]:
    """The gates of the network that `runner` runs, eager PyTorch of `checkpoint`, on the frames of `chosen`; () where
    its family has none. Each frame is read and run once more.
    """
    gates = checkpoint.recognised.family.gates
    if gates is None:
        return ()
    reasons = chosen(notes)
    found = []
    with watched(gates(checkpoint.network), checkpoint.contract) as seen:
        wanted = [frame for frame in frames if frame.name in reasons]
        for file in progress.track(wanted, "what the network looks at", len(wanted)):
            frame, _ = file.read()
            runner.run(checkpoint.contract.encode(frame))
            small = _small(frame)
            pictures = [Crop(caption="blurred", uri=jpeg_uri(small))]
            for name, gate in seen(frame).items():
                pictures.append(Crop(caption=name, uri=jpeg_uri(_small(picture_of(gate))), note=range_text(gate)))
            height, width = small.shape[:2]
            shown = {"frame": file.name, "reason": reasons[file.name], "height": height, "width": width}
            found.append(Attention(**shown, pictures=tuple(pictures)))
    return tuple(sorted(found, key=lambda one: list(reasons).index(one.frame)))


def chosen(notes: Notes) -> dict[str, str]:
    """Name of a frame -> why it matters: the least fidelity of an engine, and where the network itself gains least;
    the first frame where there is neither.
    """
    reasons = {}
    if notes.worst:
        worst, _ = notes.worst[0]
        reasons[worst.frame] = f"the least fidelity: {decibels_text(worst.fidelity_db, 1)} dB of {worst.engine}"
    gains = [
        (gain_decibels(before.psnr_db, result.quality.psnr_db), result.frame)
        for result, before in zip(notes.frames[notes.reference], notes.blurred, strict=False)
        if result.quality
    ]
    least, frame = min((one for one in gains if math.isfinite(one[0])), default=(math.inf, ""))
    if frame:
        text = f"the least that the network gains: {decibels_text(least, signed=True)} dB"
        reasons[frame] = f"{reasons[frame]}; {text}" if frame in reasons else text
    return reasons or {notes.frames[notes.reference][0].frame: "the first picture"}


def _small(frame: Frame) -> Frame:
    image = Image.fromarray(frame)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(image)
