"""What an array on the device tells about itself, whichever library made it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from unblur.core.errors import InputError


@dataclass(frozen=True)
class DeviceArray:
    """`stream` is the handle of the stream that fills it; 0 is the default stream. `dtype` is numpy's name."""

    address: int
    shape: tuple[int, ...]
    dtype: str
    stream: int

    @property
    def ndim(self) -> int:
        return len(self.shape)


def describe(array: Any) -> DeviceArray:
    """A PyTorch CUDA tensor, or anything with `__cuda_array_interface__` (version 2 or 3, numba.pydata.org).

    Raises InputError for anything else, and for an array that is not contiguous.
    """
    torch: Any = sys.modules.get("torch")  # whoever passes a tensor has imported it
    if torch is not None and isinstance(array, torch.Tensor):
        if not array.is_cuda:
            raise InputError(f"The tensor is on {array.device}, not on the GPU; use run, or move it with .cuda().")
        if not array.is_contiguous():
            raise InputError("The tensor is not contiguous; pass .contiguous().")
        dtype = str(array.dtype).removeprefix("torch.")
        stream = torch.cuda.current_stream(array.device).cuda_stream
        return DeviceArray(array.data_ptr(), tuple(array.shape), dtype, int(stream))
    try:
        facts = array.__cuda_array_interface__
    except AttributeError as error:
        raise InputError(f"{type(array).__name__} is no array on the GPU; pass a CUDA tensor, or use run.") from error
    if facts.get("strides") is not None:
        raise InputError("The array on the GPU has strides; pass one that is contiguous.")
    # Version 3: 1 is the default stream, None means that nobody need wait.
    stream = facts.get("stream") or 0
    dtype = np.dtype(facts["typestr"]).name
    return DeviceArray(int(facts["data"][0]), tuple(facts["shape"]), dtype, 0 if stream == 1 else int(stream))
