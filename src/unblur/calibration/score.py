"""What a candidate graph costs in decibels on frames that calibration has not seen.

Fidelity and quality are what the comparison reports (unblur.compare): per frame, then averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import onnx
from numpy.typing import NDArray

from unblur.core.errors import BudgetError, InputError
from unblur.engines.graph_file import read_graph
from unblur.engines.written_graph import WrittenGraph, as_backend, as_written
from unblur.images.contract import METADATA_KEY, Frame
from unblur.metrics.quality import psnr_db


@dataclass(frozen=True)
class HeldOut:
    """A frame to score on and, where there is one, its sharp truth: both (H, W, 3) RGB uint8 of one size."""

    frame: Frame
    truth: Frame | None = None


@dataclass(frozen=True)
class Score:
    """A candidate against the float32 graph, in dB over the held-out frames.

    fidelity: PSNR of the float tensors (peak: the contract's range), of the bytes where the graph gives bytes;
    infinite where nothing differs. psnr_loss_db: mean PSNR against truth that float32 has and the candidate has not,
    on 8-bit frames; None where a frame has no truth.
    """

    fidelity_db_mean: float
    fidelity_db_worst: float
    psnr_loss_db: float | None

    def to_json(self) -> dict[str, float | str | None]:
        """JSON has no infinity: it is written as a word."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: "inf" if value == float("inf") else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Score:
        """What `to_json` gave. Raises KeyError and ValueError for anything else."""
        mean, worst, loss = (values[name] for name in cls.__dataclass_fields__)
        return cls(float(mean), float(worst), loss)

    def enforce(self, what: str, fidelity_db_min: float | None, psnr_loss_db_max: float | None) -> None:
        """Raise BudgetError, saying both numbers, when the worst fidelity or the loss breaks its limit."""
        if fidelity_db_min is not None and not self.fidelity_db_worst >= fidelity_db_min:
            raise BudgetError(
                f"{what}: fidelity is {self.fidelity_db_worst:.2f} dB on the worst held-out frame, the budget "
                f"{fidelity_db_min:g} dB; calibrate on frames like those it will see, or keep more in float."
            )
        if psnr_loss_db_max is not None and self.psnr_loss_db is not None and not self.psnr_loss_db <= psnr_loss_db_max:
            raise BudgetError(
                f"{what}: {self.psnr_loss_db:.3f} dB of PSNR are lost on held-out frames, the budget is "
                f"{psnr_loss_db_max:g} dB; calibrate on frames like those it will see, or keep more in float."
            )


class Judge:
    """Scores candidates of one float32 graph. The reference is computed once, and so are the encoded frames.

    inputs: the frames as the graph takes them.
    """

    def __init__(self, graph: Path, frames: Sequence[HeldOut], threads: int = 1) -> None:
        """`graph`: the float32 graph. Raises InputError as `read_graph`, for no frame, a frame of another size than
        the graph takes, and a truth of another size than its frame."""
        if not frames:
            raise InputError("There is no held-out frame to score on; name at least one.")
        self._frames, self._threads = list(frames), threads
        signature = read_graph(graph).signature
        self._contract = signature.contract
        self.inputs = tuple(self._contract.encode(held.frame) for held in self._frames)
        for held, tensor in zip(self._frames, self.inputs, strict=True):
            signature.check(tensor)
            if held.truth is not None and held.truth.shape != held.frame.shape:
                raise InputError(f"A held-out frame is {held.frame.shape[:2]}, its truth {held.truth.shape[:2]}.")
        self._reference = list(self._run(onnx.load(graph), f"{graph}", exact=False))

    def score(self, model: onnx.ModelProto | Path, exact: bool) -> Score:
        """Run a candidate on every frame.

        exact: without graph optimisations, so that Q/DQ are computed as they are written; otherwise as ONNX Runtime
        would really run it, which on a CPU without VNNI saturates in the 16-bit sums of u8 x s8.
        Raises InputError for a graph of another pixel contract, one that ONNX Runtime refuses, and NaN or infinity.
        """
        loaded = onnx.load(model) if isinstance(model, Path) else model
        stated = {entry.key: entry.value for entry in loaded.metadata_props}.get(METADATA_KEY)
        if stated != self._contract.to_json():
            raise InputError("The candidate's pixel contract is not the float32 graph's; rewrite that very graph.")
        return self.compare(self._run(loaded, "the candidate", exact))

    def compare(self, results: Iterable[NDArray[Any]]) -> Score:
        """What an engine gave for each of `inputs`, in their order. Raises InputError for NaN or infinity."""
        fidelities, losses = [], []
        for held, reference, result in zip(self._frames, self._reference, results, strict=True):
            height, width = held.frame.shape[:2]
            peak = self._contract.high - self._contract.low
            a, b = (self._contract.crop(tensor, height, width) for tensor in (reference, result))
            fidelities.append(psnr_db(a, b, peak=peak))
            if held.truth is not None:
                before, after = (
                    psnr_db(self._contract.decode(tensor, height, width), held.truth, peak=255)
                    for tensor in (reference, result)
                )
                losses.append(0.0 if before == after else before - after)
        loss = fmean(losses) if len(losses) == len(self._frames) else None
        return Score(fmean(fidelities), min(fidelities), loss)

    def _run(self, model: onnx.ModelProto, what: str, exact: bool) -> Iterable[NDArray[Any]]:
        adjust = as_written if exact else as_backend
        graph = WrittenGraph(model, what=what, threads=self._threads, adjust=adjust)
        for tensor in self.inputs:
            yield graph.output(tensor)
