"""The Runner protocol: an open engine, and nothing else. A runner never times itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from numpy.typing import NDArray

from unblur.images.contract import Frame
from unblur.images.signature import Signature


class Runner(Protocol):
    """An open engine. Also a context manager; `run` after `close` raises RuntimeError."""

    @property
    def signature(self) -> Signature:
        """What `run` takes and gives."""

    @property
    def description(self) -> dict[str, str]:
        """Backend, version, device, threads, precision: strings for reports."""

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """One batch of one in, the result out, finished when the call returns (device synchronised).

        Raises InputError as `Signature.check`.
        """

    def close(self) -> None:
        """Release the engine; may be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Events(Protocol):
    """Two points of a device's queue, and the time between them by the device's own clock."""

    def around(self, work: Callable[[], Any]) -> None:
        """Queue `work` between the two."""

    def elapsed_ms(self) -> float:
        """Milliseconds between them. Both must have been reached: `Queueing.wait`."""


@runtime_checkable
class Queueing(Protocol):
    """A runner whose device works on its own: its work can be queued there apart from the copies, and waited for."""

    def resident(self, shape: tuple[int, ...]) -> AbstractContextManager[Callable[[], Any]]:
        """The work of one frame of `shape` on the device alone, its input lying there: each call queues it."""

    def wait(self) -> None:
        """Return when all that was queued is done."""

    def events(self) -> AbstractContextManager[Events]:
        """For work within `resident`, as often as one likes; given back behind it."""


def restore_frame(runner: Runner, frame: Frame) -> Frame:
    """Deblur one (H, W, 3) RGB uint8 frame of any size: encode and pad, run, crop and decode."""
    contract = runner.signature.contract
    return contract.decode(runner.run(contract.encode(frame)), frame.shape[0], frame.shape[1])
