"""What a stream of frames leaves of every tensor: extremes, their moving averages and a histogram."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unblur.calibration.histogram import BINS, Counts, add_counts
from unblur.core.artefacts import atomic_path, file_digest, value_digest
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.heap import maps_given_back
from unblur.core.reading import DAMAGED_ARCHIVE
from unblur.graphs.pieces import PiecewiseGraph, Walk
from unblur.images.contract import Frame

DECAY = 0.99
"""Smoothing of the moving averages, as PyTorch's MovingAverageMinMaxObserver and ONNX Runtime have it (0.01 new)."""

HELD_PIXELS = 1 << 20
"""Frames with so many pixels together are held and gone through once: what one frame of 720p takes."""

SAVED_BYTES = 256 << 20
"""What later pieces read is saved where it is no more than this: half a second of writing, at most every 20."""

LIVE = "live/"
"""Begins the names of these values in a saved state."""

VERSION = 1
"""Raised whenever the same frames would give other statistics."""


class FrameStream(Protocol):
    """Frames that can be gone through more than once, one at a time in memory; a list of frames is one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Frame]: ...


@dataclass(frozen=True)
class TensorStatistics:
    """Of one tensor over all frames. `mean_low`, `mean_high`: moving averages of the extremes of each frame.

    counts: see `histogram.Counts`, over [-peak, peak]; None where only the first pass was made.
    """

    low: float
    high: float
    mean_low: float
    mean_high: float
    counts: Counts | None = None

    @property
    def peak(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))


@dataclass
class _State:
    """Where the work stands: pass 1 or 2, frames done in it, what they were, and the sums so far.

    Side by side there is one pass, number 0, of which pieces of the graph are done; `live`: what later ones read.
    """

    key: str
    number: int
    done: int
    seen: str
    first_seen: str
    extremes: NDArray[np.float64]
    counts: NDArray[np.int64]
    live: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def start(cls, key: str, number: int, tensors: int) -> _State:
        extremes = np.zeros((4, tensors))
        extremes[0], extremes[1] = np.inf, -np.inf
        return cls(key, number, 0, "", "", extremes, np.zeros((0 if number else tensors, BINS), np.int64))

    def save(self, path: Path) -> None:
        values = vars(self) | {LIVE + name: array for name, array in self.live.items()}
        del values["live"]
        with atomic_path(path.with_suffix(".npz")) as temporary:
            np.savez(temporary, allow_pickle=False, **values)

    @classmethod
    def load(cls, path: Path, key: str) -> _State | None:
        """None where there is none. Raises InputError when it cannot be read or is another measurement's."""
        path = path.with_suffix(".npz")
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file.items())
            live = {name.removeprefix(LIVE): arrays.pop(name) for name in list(arrays) if name.startswith(LIVE)}
            values: dict[str, Any] = {name: v.item() if v.ndim == 0 else v for name, v in arrays.items()}
            state = cls(**values, live=live)
        except (OSError, *DAMAGED_ARCHIVE) as error:
            raise InputError(
                f"{path} is not the state of a calibration ({error}); move it away and start anew."
            ) from error
        if state.key != key:
            raise InputError(f"{path} belongs to another graph or other tensors; move it away and start anew.")
        return state


def measure_statistics(
    graph: Path,
    tensors: Sequence[str],
    frames: FrameStream,
    *,
    histograms: bool,
    threads: int,
    progress: Progress = SILENT,
    state: Path | None = None,
    save_every_s: float = 20.0,
    held_pixels: int = HELD_PIXELS,
) -> Mapping[str, TensorStatistics]:
    """Statistics of tensors of a float32 graph over frames, each (H, W, 3) RGB uint8 of a size the graph takes.

    One pass over the frames, and with `histograms` a second one over the bounds that the first has found, so that
    memory does not depend on the number of frames. With `state` (a file's name, .npz is added) the work goes on where a
    killed run had saved it, and the file is removed at the end. Frames that have no more than `held_pixels` together
    are run side by side instead, tensor by tensor: the same numbers to the last bit, and each frame is run once; then
    what later tensors need of the frames is saved, too.

    Raises InputError for no frame, NaN or infinity in a tensor (naming both), frames that differ between the passes or
    from those of the saved state, and as `PiecewiseGraph`.
    """
    names = list(dict.fromkeys(tensors))
    if not len(frames):
        raise InputError("Calibration got no frame; name a manifest that has some.")
    held = _held(frames, held_pixels) if histograms else None
    about = {"version": VERSION, "graph": file_digest(graph), "tensors": names, "histograms": histograms}
    key = value_digest(about if held is None else about | {"held": True})
    row = {name: k for k, name in enumerate(names)}
    at = (state and _State.load(state, key)) or _State.start(key, 1 if held is None else 0, len(names))
    save = _Saver(state, save_every_s)
    with maps_given_back():
        opened = PiecewiseGraph(graph, names, threads)
        if held is None:
            at = _stream(at, opened, frames, row, histograms, progress, save)
        else:
            _side_by_side(at, opened.maps(held), held, row, progress, save)
        del opened
    if state:
        state.with_suffix(".npz").unlink(missing_ok=True)
    result = {}
    for name, k in row.items():
        low, high, mean_low, mean_high = (float(value) for value in at.extremes[:, k])
        result[name] = TensorStatistics(low, high, mean_low, mean_high, at.counts[k] if histograms else None)
    return result


def _held(frames: FrameStream, pixels: int) -> list[Frame] | None:
    """All frames, where they have no more pixels together."""
    held: list[Frame] = []
    for frame in frames:
        pixels -= frame.shape[0] * frame.shape[1]
        if pixels < 0:
            return None
        held.append(frame)
    return held


@dataclass
class _Saver:
    """Saves a state every so many seconds, where there is a file for it."""

    path: Path | None
    every_s: float
    last: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        return self.path is not None and time.monotonic() - self.last >= self.every_s

    def __call__(self, at: _State) -> None:
        assert self.path is not None
        at.save(self.path)
        self.last = time.monotonic()


def _side_by_side(
    at: _State, walk: Walk, held: Sequence[Frame], row: Mapping[str, int], progress: Progress, save: _Saver
) -> None:
    """One pass, tensor by tensor; saved between pieces that hand little on."""
    seen = ""
    for frame in held:
        seen = _chained(seen, frame)
    if at.done:
        _demand_same(at.seen, seen)
        walk.resume(at.done, at.live)
        at.live = {}
    for made in progress.track(walk, "ranges", len(walk)):
        for name, maps in made.items():
            for number, values in enumerate(maps):
                _extend(at, name, row[name], values, number)
            for values in maps:
                _count(at, row[name], values)
        if save.due and walk.live_bytes <= SAVED_BYTES:
            save(replace(at, done=walk.done, seen=seen, live=walk.live()))


def _stream(
    at: _State, graph: PiecewiseGraph, frames: FrameStream, row: Mapping[str, int], histograms: bool,
    progress: Progress, save: _Saver,
) -> _State:  # fmt: skip
    """One pass, or two, frame by frame; saved as it goes."""
    passes = 2 if histograms else 1
    while at.number <= passes:
        seen = ""
        for k, frame in enumerate(progress.track(frames, f"ranges, pass {at.number} of {passes}", len(frames))):
            seen = _chained(seen, frame)
            if k < at.done:
                if k + 1 == at.done:
                    _demand_same(at.seen, seen)
                continue
            for made in graph.maps([frame]):
                for name, (values,) in made.items():
                    if at.number == 1:
                        _extend(at, name, row[name], values, k)
                    else:
                        _count(at, row[name], values)
            at.done, at.seen = k + 1, seen
            if save.due:
                save(at)
        if at.number == 2 and seen != at.first_seen:
            raise InputError("The frames changed between the two passes of calibration; run it again.")
        if at.number == 1 and histograms:
            at.counts = np.zeros((len(row), BINS), np.int64)
        at = _State(at.key, at.number + 1, 0, "", seen, at.extremes, at.counts)
    return at


def _chained(seen: str, frame: Frame) -> str:
    """A digest of the frames so far."""
    return sha256(f"{seen} {frame.shape}".encode() + frame.tobytes()).hexdigest()


def _demand_same(saved: str, seen: str) -> None:
    if saved != seen:
        raise InputError("The frames are not those of the interrupted calibration; remove its state.")


def _extend(at: _State, name: str, k: int, values: NDArray[np.float32], number: int) -> None:
    """The extremes of a frame's map into row `k`; `number` frames were before."""
    low, high, mean_low, mean_high = at.extremes
    least, most = float(values.min()), float(values.max())
    if not np.isfinite([least, most]).all():
        raise InputError(
            f"Tensor {name!r} holds NaN or infinity on calibration frame {number + 1}; check the checkpoint."
        )
    low[k], high[k] = min(low[k], least), max(high[k], most)
    # The average of the frames so far, weighted by DECAY**age: a moving average without the pull of its start
    # (Kingma and Ba, ICLR 2015, section 3; TensorFlow's zero_debias).
    new = (1 - DECAY) / (1 - DECAY ** (number + 1))
    mean_low[k] += new * (least - mean_low[k])
    mean_high[k] += new * (most - mean_high[k])


def _count(at: _State, k: int, values: NDArray[np.float32]) -> None:
    """A map's values into the histogram of row `k`, whose bounds are known."""
    low, high, *_ = at.extremes
    add_counts(at.counts[k], values, max(abs(low[k]), abs(high[k])))


def save_statistics(path: Path, statistics: Mapping[str, TensorStatistics]) -> None:
    """Write statistics to `path` (.npz); those of one measurement, so all with counts or all without."""
    rows = list(statistics.values())
    extremes = np.array([[s.low, s.high, s.mean_low, s.mean_high] for s in rows])
    counts = np.array([s.counts for s in rows if s.counts is not None], np.int64).reshape(-1, BINS)
    with path.open("wb") as file:  # a file: given a name, numpy would add a suffix to it
        np.savez_compressed(file, names=np.array(list(statistics)), extremes=extremes, counts=counts)


def load_statistics(path: Path) -> Mapping[str, TensorStatistics]:
    """Read what `save_statistics` wrote. Raises InputError when it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names, extremes, counts = (file[key] for key in ("names", "extremes", "counts"))
    except (OSError, *DAMAGED_ARCHIVE) as error:
        raise InputError(f"{path} holds no statistics ({error}); remove it and calibrate again.") from error
    statistics = {}
    for k, name in enumerate(names):
        low, high, mean_low, mean_high = (float(end) for end in extremes[k])
        statistics[str(name)] = TensorStatistics(low, high, mean_low, mean_high, counts[k] if len(counts) else None)
    return statistics
