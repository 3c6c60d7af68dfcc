"""What a candidate graph costs in decibels on frames that calibration has not seen.

Fidelity and quality are what the comparison reports (unblur.compare): per frame, then averaged over finite values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from unblur.core.errors import BudgetError, InputError
from unblur.graphs.file import read_graph
from unblur.graphs.metadata import contract_of
from unblur.graphs.sessions import WrittenGraph, as_backend, as_written
from unblur.images.contract import Frame
from unblur.metrics.decibels import (
    Loss,
    check_limit,
    decibels_from_json,
    decibels_text,
    decibels_to_json,
    loss_decibels,
    mean_decibels,
)
from unblur.metrics.quality import psnr_db


@dataclass(frozen=True)
class HeldOut:
    """A frame to score on and, where there is one, its sharp truth: both (H, W, 3) RGB uint8 of one size."""

    frame: Frame
    truth: Frame | None = None


@dataclass(frozen=True)
class Score:
    """A candidate against the float32 graph, in dB over the held-out frames.

    fidelities_db: one for each frame, PSNR of the float tensors (peak: the contract's range), of the bytes where the
    graph gives bytes; infinite where nothing differs. loss: of PSNR against truth (`Loss`), on 8-bit frames; None where
    a frame has no truth.
    """

    fidelities_db: tuple[float, ...]
    loss: Loss | None

    @property
    def fidelity_db_mean(self) -> float:
        """Over the frames where something differs; infinite where nothing does."""
        return mean_decibels(self.fidelities_db).db

    @property
    def fidelity_db_worst(self) -> float:
        return min(self.fidelities_db)

    @property
    def psnr_loss_db(self) -> float | None:
        """Infinite where a frame lost what float32 had to the last byte (`Loss`)."""
        return None if self.loss is None else self.loss.db

    @property
    def loss_remark(self) -> str:
        """In brackets, which frames the mean loss is of; "" where it is of all."""
        return f" ({self.loss.remark})" if self.loss and self.loss.remark else ""

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: infinity is written as a word. The means are there for readers."""
        return {
            "fidelity_db_mean": decibels_to_json(self.fidelity_db_mean),
            "fidelity_db_worst": decibels_to_json(self.fidelity_db_worst),
            "fidelities_db": [decibels_to_json(value) for value in self.fidelities_db],
            "psnr_loss_db": decibels_to_json(self.psnr_loss_db),
            "psnr_loss_frames": None
            if self.loss is None
            else {name: value for name, value in asdict(self.loss).items() if name != "db"},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Score:
        """What `to_json` gave. Raises KeyError, TypeError and ValueError for anything else."""
        frames = values["psnr_loss_frames"]
        loss = None if frames is None else Loss(decibels_from_json(values["psnr_loss_db"]), **frames)
        return cls(tuple(decibels_from_json(value) for value in values["fidelities_db"]), loss)

    def enforce(self, what: str, fidelity_db_min: float | None, psnr_loss_db_max: float | None) -> None:
        """Raise BudgetError, saying both numbers, when the worst fidelity or the loss breaks its limit; InputError
        for a limit that is no number."""
        check_limit("The budget of fidelity", fidelity_db_min)
        check_limit("The budget of PSNR lost", psnr_loss_db_max)
        if fidelity_db_min is not None and not self.fidelity_db_worst >= fidelity_db_min:
            raise BudgetError(
                f"{what}: fidelity is {self.fidelity_db_worst:.2f} dB on the worst held-out frame, the budget "
                f"{fidelity_db_min:g} dB; calibrate on frames like those it will see, or keep more in float."
            )
        if psnr_loss_db_max is not None and self.psnr_loss_db is not None and not self.psnr_loss_db <= psnr_loss_db_max:
            raise BudgetError(
                f"{what}: {decibels_text(self.psnr_loss_db, 3)} dB of PSNR are lost on held-out frames"
                f"{self.loss_remark}, the budget is {psnr_loss_db_max:g} dB; calibrate on frames like those it will "
                "see, or keep more in float."
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
        if contract_of(loaded, "The candidate") != self._contract:
            raise InputError("The candidate's pixel contract is not the float32 graph's; rewrite that very graph.")
        return self.compare(self._run(loaded, "the candidate", exact))

    def compare(self, results: Iterable[NDArray[Any]]) -> Score:
        """What an engine gave for each of `inputs`, in their order. Raises InputError for NaN or infinity."""
        fidelities, befores, afters = [], [], []
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
                befores.append(before)
                afters.append(after)
        whole = len(befores) == len(self._frames)
        return Score(tuple(fidelities), loss_decibels(befores, afters) if whole else None)

    def _run(self, model: onnx.ModelProto, what: str, exact: bool) -> Iterable[NDArray[Any]]:
        adjust = as_written if exact else as_backend
        graph = WrittenGraph(model, what=what, threads=self._threads, adjust=adjust)
        for tensor in self.inputs:
            yield graph.output(tensor)
