"""What every runner says for its backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unblur.core.errors import InputError
from unblur.engines.base import BaseRunner
from unblur.images.contract import CONTRACTS
from unblur.images.signature import Signature

CONTRACT = replace(CONTRACTS["rgb01"], multiple=1)


class Full(BaseRunner):
    """One whose memory is full."""

    def __init__(self) -> None:
        super().__init__(Signature(CONTRACT, None, None), {"backend": "full"})

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        raise MemoryError

    def _release(self) -> None: ...


class Around(Full):
    """One that runs another, as one in a process of its own does."""

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        return Full().run(tensor)


@pytest.mark.parametrize("kind", [Full, Around])
def test_a_full_memory_is_not_told_as_a_matter_of_multiples(kind: type[Full]) -> None:
    with kind() as runner, pytest.raises(InputError, match="Memory does not hold a frame of 8x8 in full") as told:
        runner.run(CONTRACT.encode(np.zeros((8, 8, 3), np.uint8)))
    assert "multiples" not in str(told.value)
