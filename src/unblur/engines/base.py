"""What every runner shares: the check of each input, and closing exactly once."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from unblur.core.errors import InputError
from unblur.images.signature import Signature

_OUT_OF_MEMORY = re.compile(r"allocate .*(memory|bytes)|bad.alloc|out of memory|not enough memory", re.IGNORECASE)
"""How PyTorch, ONNX Runtime and OpenVINO say it; none has an exception of its own for a CPU."""

NO_MEMORY = "Memory does not hold"


def out_of_memory(error: Exception) -> bool:
    """Whether a backend's error tells that memory ran out."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


class BaseRunner(ABC):
    """A `Runner` whose backend fills in `_run` and `_release`."""

    def __init__(self, signature: Signature, description: dict[str, str]) -> None:
        self._signature = signature
        self._description = description
        self._open = True

    @property
    def signature(self) -> Signature:
        """What `run` takes and gives."""
        return self._signature

    @property
    def description(self) -> dict[str, str]:
        """Backend, version, device, threads, precision: strings for reports."""
        return dict(self._description)

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """One batch of one in, the result out in memory of its own; finished when the call returns.

        Raises InputError as `Signature.check`, where memory does not hold the work, and for a result that is no such
        frame; RuntimeError after `close`.
        """
        if not self._open:
            raise RuntimeError(f"This {self._description['backend']} runner is closed; open the engine again.")
        self._signature.check(tensor)
        try:
            result = self._run(tensor)
        except InputError as error:
            hint = self._of_multiples()
            inner = (hint, NO_MEMORY)  # what a runner inside of this one has said, which knew
            if not hint or any(words in str(error) for words in inner):
                raise
            raise InputError(f"{error}{hint}") from error
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            shape = tensor.shape[2:] if self._signature.contract.layout == "nchw" else tensor.shape[1:3]
            raise InputError(
                f"{NO_MEMORY} a frame of {shape[0]}x{shape[1]} in {self._description['backend']}; free some, "
                "use an engine that takes less (PyTorch takes least), or split the picture into parts."
            ) from error
        if (result.shape, result.dtype) != (tensor.shape, tensor.dtype):
            raise InputError(
                f"The engine gives {result.shape} {result.dtype} for a frame of {tensor.shape} {tensor.dtype}; is it a "
                f"deblurring network?{self._of_multiples()}"
            )
        return result

    def _of_multiples(self) -> str:
        """The likeliest reason for what a graph does not take that takes every size by its own word."""
        contract = self._signature.contract
        if self._signature.sizes != "dynamic" or contract.multiple > 1:
            return ""
        return f" If it takes multiples of 8 alone, say so: --contract {contract.name}/8."

    def close(self) -> None:
        """Release the engine; may be called twice."""
        if self._open:
            self._open = False
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """The work itself. The input has been checked and must not be modified."""

    @abstractmethod
    def _release(self) -> None:
        """Drop what holds the engine's memory."""
