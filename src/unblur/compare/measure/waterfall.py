"""Error waterfall: reference -> exact graph -> 16-bit graph -> 8-bit graph as written -> what the engine really gave.

Graphs run in ONNX Runtime as they are written: 16 bits as float32 with every tensor rounded, 8 bits with every pair
rounded, nothing fused. So each step costs what its precision costs, and the last one what the engine adds of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from unblur.compare.measure.frames import FrameFile
from unblur.compare.measure.latency import fit_frame
from unblur.compare.parts import Step, StepName, Waterfall
from unblur.core.console import SILENT, Progress
from unblur.core.errors import CrashError, UnblurError
from unblur.core.provenance import default_threads
from unblur.engines.runner import Runner
from unblur.graphs.file import open_graph
from unblur.graphs.rewrites.casting import Narrow, cast_graph
from unblur.graphs.rewrites.emulation import widen
from unblur.graphs.sessions import WrittenGraph
from unblur.graphs.tensor_error import ratio_db
from unblur.images.contract import Frame, PixelContract
from unblur.images.signature import Signature

if TYPE_CHECKING:
    from unblur.compare.candidates import Candidate

MOST = 4
"""Frames: each costs a run of every graph."""

CROP = 256
"""Longest side in pixels; of larger frames the middle is taken, where an engine takes such a size."""

WHOLE_PIXELS = 1280 * 720
"""An engine that takes no crop is looked at on one whole frame up to this size: its graphs run on the CPU."""

NARROW_STEPS: Mapping[Narrow, StepName] = {"fp16": "fp16 graph", "bf16": "bf16 graph"}

Picture = NDArray[np.float64]
"""(height, width, 3) RGB in [0, 1], not rounded to bytes."""


@dataclass(frozen=True)
class Graphs:
    """What an engine runs: the float32 graph it came from (`exact`), and the graph as `written` for it, perhaps the
    same. `narrow`: what the engine computes a float32 graph in, where that is 16 bits. `output` and `contract`: of a
    graph that does not say them.
    """

    exact: Path
    written: Path
    narrow: Narrow | None = None
    output: str | None = None
    contract: PixelContract | None = None


def measure_waterfalls(
    engines: Sequence[Candidate],
    runners: Mapping[str, Runner],
    reference: str,
    frames: Sequence[FrameFile],
    size: tuple[int, int] | None,
    threads: int | None = None,
    progress: Progress = SILENT,
    crashed: dict[str, str] | None = None,
) -> dict[str, Waterfall]:
    """The waterfall of every open candidate by name, on up to MOST of the frames, cut to CROP.

    `size`: the padded (height, width) that the runners were opened for, None for every size. What a step fails of is
    told in its waterfall and stops nothing. Engines that crash are added to `crashed`, and those in it are left out.
    """
    crashed = {} if crashed is None else crashed
    count = min(MOST, len(frames))
    whole = [frames[k * len(frames) // count].read()[0] for k in range(count)]
    crops = [fit_frame(frame, *(min(side, CROP) for side in frame.shape[:2])) for frame in whole]
    cut = any(a.shape != b.shape for a, b in zip(whole, crops, strict=True))
    at = runners[reference].signature.contract.padded_size(*crops[0].shape[:2]) if size and cut else size
    threads = threads or default_threads()
    benches: dict[bool, _Bench] = {}

    def bench(on_crops: bool) -> _Bench:
        if on_crops not in benches:
            benches[on_crops] = _Bench(runners[reference], crops if on_crops else whole[:1], threads)
        return benches[on_crops]

    found = {}
    present = [e for e in engines if e.name in runners and e.name != reference and e.name not in crashed]
    for engine in progress.track(present, "where decibels are lost", len(present)):
        runner = runners[engine.name]
        try:
            if not cut or _takes(runner, crops):
                found[engine.name] = bench(True).waterfall(engine, runner, at if cut else size)
            elif engine.refits:
                with engine.open(at) as other:
                    found[engine.name] = bench(True).waterfall(engine, other, at)
            elif whole[0].shape[0] * whole[0].shape[1] <= WHOLE_PIXELS:
                found[engine.name] = bench(False).waterfall(engine, runner, size)
            else:
                found[engine.name] = Waterfall(missing="it takes no crop, and its frames are too large to run whole")
        except UnblurError as error:
            found[engine.name] = Waterfall(missing=str(error))
            if isinstance(error, CrashError):
                crashed[engine.name] = str(error)
    return found


def _takes(runner: Runner, frames: Sequence[Frame]) -> bool:
    signature = runner.signature
    sizes = {signature.contract.padded_size(*frame.shape[:2]) for frame in frames}
    own = (signature.height, signature.width)
    return own == (None, None) or sizes == {own}


@dataclass
class _Bench:
    """Frames, what the reference makes of them, and what graphs made of them, each run once."""

    reference: Runner
    frames: Sequence[Frame]
    threads: int
    ran: dict[tuple[Path, str], tuple[list[Picture], bool]] = field(default_factory=dict)

    def waterfall(self, engine: Candidate, runner: Runner, size: tuple[int, int] | None) -> Waterfall:
        exact, _ = self._of_runner(self.reference)
        results: list[tuple[StepName, list[Picture]]] = []
        bytes_somewhere, missing = False, ""
        try:
            for name, key, model, signature in _steps(engine.graphs(size) if engine.graphs else None):
                contract = signature.contract
                if key not in self.ran:
                    signature.check(contract.encode(self.frames[0]))
                    graph = WrittenGraph(model, what=f"the {name} of {engine.name}", threads=self.threads)
                    pictures = [_unit(graph.output(contract.encode(f)), contract, f) for f in self.frames]
                    self.ran[key] = (pictures, contract.dtype == "uint8")
                results.append((name, self.ran[key][0]))
                bytes_somewhere |= self.ran[key][1]
        except UnblurError as error:
            missing = str(error)
        pictures, in_bytes = self._of_runner(runner)
        results.append(("engine", pictures))
        return Waterfall(
            frames=len(self.frames),
            height=self.frames[0].shape[0],
            width=self.frames[0].shape[1],
            steps=_told(exact, results, bytes_somewhere or in_bytes),
            missing=missing,
        )

    def _of_runner(self, runner: Runner) -> tuple[list[Picture], bool]:
        contract = runner.signature.contract
        pictures = [_unit(runner.run(contract.encode(frame)), contract, frame) for frame in self.frames]
        return pictures, contract.dtype == "uint8"


def _steps(
    graphs: Graphs | None,
) -> Iterator[tuple[StepName, tuple[Path, str], onnx.ModelProto, Signature]]:
    """The steps of a graph that there are: name, key, a model that ONNX Runtime computes as written, its frames."""
    if graphs is None:
        return
    float_file, exact = open_graph(graphs.exact, graphs.output, graphs.contract)
    yield "exact graph", (graphs.exact, "fp32"), exact, float_file.signature
    told, model = (float_file, exact)
    if graphs.written != graphs.exact:
        told, model = open_graph(graphs.written, graphs.output, graphs.contract)
    signature, kinds = told.signature, told.precision.split("+")
    stored: Narrow | None = "bf16" if "bf16" in kinds else "fp16" if "f16" in kinds else None
    eight = told.quantised > 0
    if stored and not eight:
        yield NARROW_STEPS[stored], (graphs.written, stored), widen(model, stored), signature
    elif stored or graphs.narrow:
        narrow = stored or graphs.narrow
        assert narrow is not None
        wide = widen(cast_graph(exact, narrow).model, narrow)
        yield NARROW_STEPS[narrow], (graphs.exact, narrow), wide, float_file.signature
    if eight:
        yield "8-bit graph", (graphs.written, "8 bits"), widen(model, stored) if stored else model, signature


def _unit(tensor: NDArray[Any], contract: PixelContract, frame: Frame) -> Picture:
    """A result as a picture in [0, 1], cropped to its frame."""
    picture = contract.crop(tensor, *frame.shape[:2])[0].astype(np.float64)
    if contract.layout == "nchw":
        picture = picture.transpose(1, 2, 0)
    if contract.channel_order == "bgr":
        picture = picture[..., ::-1]
    low, span = (0.0, 255.0) if contract.dtype == "uint8" else (contract.low, contract.high - contract.low)
    unit: Picture = (picture - low) / span
    return unit


def _told(
    reference: Sequence[Picture], results: Sequence[tuple[StepName, list[Picture]]], in_bytes: bool
) -> tuple[Step, ...]:
    """Decibels of each step. Where one gives bytes, all are rounded to them: their rounding is no step's fault."""

    def level(pictures: Sequence[Picture]) -> list[Picture]:
        return [np.floor(np.clip(p, 0, 1) * 255 + 0.5) / 255 for p in pictures] if in_bytes else list(pictures)

    first = before = level(reference)
    steps = []
    for name, pictures in results:
        after = level(pictures)
        steps.append(Step(name=name, fidelity_db=_decibels(first, after), alone_db=_decibels(before, after)))
        before = after
    return tuple(steps)


def _decibels(a: Sequence[Picture], b: Sequence[Picture]) -> float:
    """PSNR over all frames together, peak 1: errors of several steps then add up."""
    return ratio_db(1.0, float(np.mean([np.mean(np.square(x - y)) for x, y in zip(a, b, strict=True)])))
