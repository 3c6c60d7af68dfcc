"""Fidelity of tensors and of frames, and when tensors cannot be compared."""

import math
from dataclasses import replace

import numpy as np
import pytest
from pixels import BGR

from unblur.compare.measure.fidelity import Restored, fidelity, mean_quality
from unblur.compare.report import MeanQuality, Quality
from unblur.core.errors import InputError
from unblur.images.contract import PixelContract

FRAME = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def _restored(contract: PixelContract) -> Restored:
    tensor = contract.encode(FRAME)
    return Restored(tensor, contract, contract.decode(tensor, 5, 7))


def test_padding_does_not_count() -> None:
    candidate = _restored(BGR)
    candidate.tensor[..., 5:, :] = 0.5
    candidate.tensor[..., 7:] = 0.5
    assert fidelity(_restored(BGR), candidate).tensor_db == math.inf


def test_the_peak_is_the_length_of_the_range() -> None:
    wide = replace(BGR, low=-1.0, high=1.0)
    reference, candidate = _restored(wide), _restored(wide)
    candidate.tensor[...] += np.float32(0.02)
    # 20 log10(2 / 0.02); observed within 1e-5, the rounding of float32.
    assert fidelity(reference, candidate).tensor_db == pytest.approx(40.0, abs=1e-4)


@pytest.mark.parametrize(
    "contract", [replace(BGR, channel_order="rgb"), replace(BGR, low=0.0, high=1.0), BGR.as_uint8()]
)
def test_tensors_of_two_contracts_are_not_compared(contract: PixelContract) -> None:
    found = fidelity(_restored(BGR), _restored(contract))
    assert (found.tensor_db, found.tensor_max_error) == (None, None)
    assert (found.frame_db, found.frame_max_error) == (math.inf, 0)
    assert found.strictest_db == math.inf


def test_infinity_in_a_tensor_is_not_hidden_by_the_clamp() -> None:
    candidate = _restored(BGR)
    candidate.tensor[0, 0, 0, 0] = np.inf
    with pytest.raises(InputError, match="infinite"):
        fidelity(_restored(BGR), candidate)


def test_means_are_of_decibels() -> None:
    first = Quality(psnr_db=20.0, ssim_matlab=0.5, ssim_per_channel=0.25)
    second = Quality(psnr_db=30.0, ssim_matlab=0.7, ssim_per_channel=0.75)
    mean = MeanQuality(psnr_db=25.0, ssim_matlab=0.6, ssim_per_channel=0.5)
    assert mean_quality([first, second]) == mean
    exact = Quality(psnr_db=math.inf, ssim_matlab=1.0, ssim_per_channel=1.0)
    with_exact = mean_quality([first, second, exact, exact])
    assert with_exact == MeanQuality(psnr_db=25.0, ssim_matlab=0.8, ssim_per_channel=0.75, identical=2)
    assert mean_quality([exact]) == MeanQuality(psnr_db=math.inf, ssim_matlab=1.0, ssim_per_channel=1.0, identical=1)
    assert mean_quality([]) is None
