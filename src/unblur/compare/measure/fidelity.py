"""Fidelity: a candidate against the reference. Quality: anything against truth. They never share a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from numpy.typing import NDArray

from unblur.compare.report import Fidelity, MeanQuality, Quality
from unblur.images.contract import Frame, PixelContract
from unblur.metrics.alignment import aligned_quality
from unblur.metrics.decibels import mean_decibels
from unblur.metrics.quality import max_abs_error, psnr_db, ssims


@dataclass(frozen=True)
class Restored:
    """What a runner made of one frame: its tensor, padding included, the tensor's contract, and the decoded frame."""

    tensor: NDArray[Any]
    contract: PixelContract
    frame: Frame


def fidelity(reference: Restored, candidate: Restored) -> Fidelity:
    """Candidate against reference on one frame.

    The tensors are compared only where both are floats of one contract: another range or channel order would make
    their difference meaningless. Raises InputError when a tensor holds NaN or infinity.
    """
    frame_db = psnr_db(reference.frame, candidate.frame, peak=255)
    frame_error = int(max_abs_error(reference.frame, candidate.frame))
    contract = candidate.contract
    if contract.dtype != "float32" or contract != reference.contract:
        return Fidelity(tensor_db=None, tensor_max_error=None, frame_db=frame_db, frame_max_error=frame_error)
    height, width = reference.frame.shape[:2]
    a, b = (contract.crop(restored.tensor, height, width) for restored in (reference, candidate))
    return Fidelity(
        tensor_db=psnr_db(a, b, peak=contract.high - contract.low),
        tensor_max_error=max_abs_error(a, b),
        frame_db=frame_db,
        frame_max_error=frame_error,
    )


def quality(frame: Frame, truth: Frame, *, aligned: bool = False) -> Quality:
    """A frame against the sharp picture, both (H, W, 3) RGB uint8.

    aligned: as the tables of RealBlur have it, which do not hold MATLAB's SSIM. Raises InputError and
    MissingRuntimeError as `aligned_quality`.
    """
    if aligned:
        decibels, ssim = aligned_quality(frame, truth)
        return Quality(psnr_db=decibels, ssim_matlab=None, ssim_per_channel=ssim)
    both = ssims(frame, truth)
    return Quality(psnr_db=psnr_db(frame, truth, peak=255), ssim_matlab=both.matlab, ssim_per_channel=both.per_channel)


def mean_quality(qualities: Sequence[Quality]) -> MeanQuality | None:
    """Arithmetic means over frames, as the papers report them (never the PSNR of a mean error); None for none.

    Of PSNR over the frames that are not identical to the truth; SSIM, which is 1 there, over all.
    """
    if not qualities:
        return None
    volumes = [q.ssim_matlab for q in qualities if q.ssim_matlab is not None]
    psnr = mean_decibels(q.psnr_db for q in qualities)
    return MeanQuality(
        psnr_db=psnr.db,
        identical=psnr.infinite,
        ssim_matlab=fmean(volumes) if len(volumes) == len(qualities) else None,
        ssim_per_channel=fmean(q.ssim_per_channel for q in qualities),
    )
