"""`unblur blame`: two of {checkpoint, graph, engine with its graph} side by side, tensor by tensor.

A checkpoint is the exact graph of its network, which its export proves against PyTorch. An engine is the graph that
lies beside it: what runs inside an engine cannot be looked at; where a GPU runs it, its frame is held against the
graph's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from unblur.building.cast_frames import CROP, SEED, folder_frames
from unblur.core.artefacts import json_bytes, write_together
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError, MissingRuntimeError
from unblur.engines.catalogue import open_engine, pick_engine
from unblur.engines.tensorrt.file import read_engine
from unblur.engines.tensorrt.manifest import check_files, companions
from unblur.graphs.file import GraphFile, open_graph
from unblur.graphs.metadata import NETWORK_KEY, properties
from unblur.graphs.parting import Comparison, Place, find_parting
from unblur.graphs.rewrites.emulation import widen
from unblur.graphs.tensor_error import ROUNDING_DB
from unblur.images.contract import PIXELS, Frame
from unblur.images.files import Picture, encode_picture
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.decibels import decibels_text, decibels_to_json
from unblur.metrics.quality import psnr_db
from unblur.networks import checkpoints
from unblur.pipeline.job import Size
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.store import Store

MAP, FIGURES = "blame.png", "blame.json"
"""Files that `write_blame` leaves in its folder."""


@dataclass(frozen=True)
class Side:
    """One of the two: its graph, float32 between its nodes with the roundings of its precision (a key of ROUNDING_DB).
    `file` is what was named."""

    file: Path
    told: GraphFile
    model: onnx.ModelProto
    precision: str
    network: str | None

    @property
    def size(self) -> Size | None:
        height, width = self.told.signature.height, self.told.signature.width
        return None if height is None or width is None else (height, width)

    @property
    def is_engine(self) -> bool:
        return self.file.suffix.lower() not in (".onnx", *WEIGHTS)


WEIGHTS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Blame:
    """What was found. `frames`: in words; `size`: (height, width) of each. `notes`: what else a reader must know."""

    first: str
    second: str
    frames: str
    size: Size
    rounding: str
    found: Comparison
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """For people."""
        errors, parting = self.found.errors, self.found.parting
        lines = [f"{self.first} and {self.second}: {len(errors)} tensors that both have, on {self.frames}"]
        if parting is None:
            worst = min(errors, key=lambda error: error.snr_db)
            lines.append(
                f"nothing to blame: no tensor parts more than rounding in {self.rounding} explains; the worst is "
                f"{worst.name} with {decibels_text(worst.snr_db, 1)} dB, the last {errors[-1].name} with "
                f"{decibels_text(errors[-1].snr_db, 1)} dB"
            )
            return [*lines, *self.notes]
        error = parting.error
        lines += [
            f"they part at  {error.name}: {decibels_text(error.snr_db, 1)} dB, of "
            f"{decibels_text(error.given_db, 1)} dB that its node was given ({self.rounding} explains "
            f"{ROUNDING_DB[self.rounding]:g} dB)",
            f"layer         {error.node} ({parting.operator}){f' in {parting.block}' if parting.block else ''}",
            f"because       {parting.why}",
        ]
        if parting.channel:
            number, count, part = parting.channel
            lines.append(f"channel       {number} of {count} has {100 * part:.0f} % of the error")
        if parting.place:
            lines += [f"place         {self._box(parting.place)}", *(f"  |{row}|" for row in parting.place.lines())]
        return [*lines, *self.notes]

    def _box(self, place: Place) -> str:
        height, width = self.size
        part = max(max(row) for row in place.grid)
        return (
            f"{100 * part:.0f} % of it in rows {place.top * height:.0f} to {place.bottom * height:.0f}, columns "
            f"{place.left * width:.0f} to {place.right * width:.0f} of {height}x{width}"
        )

    def to_json(self) -> dict[str, Any]:
        """For programs; `parting` is None where there is nothing to blame."""
        parting = self.found.parting
        errors = [{"tensor": e.name, "node": e.node, "snr_db": decibels_to_json(e.snr_db)} for e in self.found.errors]
        told: dict[str, Any] | None = None
        if parting:
            error, place = parting.error, parting.place
            told = {
                "tensor": error.name,
                "node": error.node,
                "operator": parting.operator,
                "block": parting.block,
                "snr_db": decibels_to_json(error.snr_db),
                "given_db": decibels_to_json(error.given_db),
                "channel": parting.channel and parting.channel[0],
                "why": parting.why,
                "grid": place and place.grid,
            }
        return {
            "first": self.first, "second": self.second, "frames": self.frames, "size": self.size,
            "rounding": self.rounding, "parting": told, "notes": self.notes, "tensors": errors,
        }  # fmt: skip


def blame_engine(
    first: Path,
    second: Path,
    store: Store,
    *,
    frames: Path | None = None,
    size: Size | None = None,
    channel_order: Literal["bgr", "rgb"] | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Blame:
    """Find the first tensor where two sides part more than rounding explains.

    Each is a checkpoint, a graph (.onnx), or an engine with its graph and manifest beside it. `frames`: pictures, None
    for a drawn one; `size`: (height, width) of what is run, None for that of a graph of one size, else CROP. Raises
    InputError for files of different networks, sizes or pixels, and as the files are opened.
    """
    graphs = {path: _graph_of(path) for path in (first, second) if path.suffix.lower() not in WEIGHTS}
    opened = {path: _side(path, graph) for path, graph in graphs.items()}
    for path in (first, second):
        if path not in opened:
            other = next(iter(opened.values()), None)
            graph = _exact_graph(path, store, other, size, channel_order, progress)
            opened[path] = _side(path, graph)
    sides = (opened[first], opened[second])
    at = _common_size(sides, size)
    pictures, source = _frames(frames, at, sides[0])
    contract = sides[0].told.signature.contract
    with progress.stage("running both side by side"):
        rounding = min((side.precision for side in sides), key=lambda precision: ROUNDING_DB[precision])
        inputs = [contract.encode(picture) for picture in pictures]
        found = find_parting(sides[0].model, sides[1].model, inputs, ROUNDING_DB[rounding], threads)
    notes = [_engine_note(side, inputs[0]) for side in sides if side.is_engine]
    if None not in (sides[0].told.checkpoint, sides[1].told.checkpoint) and (
        sides[0].told.checkpoint != sides[1].told.checkpoint
    ):
        notes.append("They say that they are of two checkpoints: the first weight that differs is what is blamed.")
    return Blame(first.name, second.name, source, at, rounding, found, tuple(notes))


def write_blame(blame: Blame, folder: Path) -> tuple[Path, ...]:
    """Write the figures and, where there is a place to blame, its map: bright where the error is. Returns the files."""
    files = {folder / FIGURES: json_bytes(blame.to_json())}
    parting = blame.found.parting
    if parting and parting.place:
        heat = parting.place.heat / (parting.place.heat.max() or 1.0)
        times = max(1, min(blame.size[0] // heat.shape[0], blame.size[1] // heat.shape[1]))
        grey = np.rint(255 * np.sqrt(heat)).astype(np.uint8).repeat(times, 0).repeat(times, 1)
        frame = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
        files[folder / MAP] = encode_picture(folder / MAP, Picture(frame), frame)
    write_together(files)
    return tuple(files)


def _graph_of(path: Path) -> Path:
    """A graph itself, or the one beside an engine, which must be the engine's own."""
    if path.suffix.lower() == ".onnx":
        return path
    if not path.is_file():
        raise InputError(f"{path} does not exist; name a checkpoint, a graph (.onnx), or an engine with its graph.")
    told = read_engine(path)
    graph = companions(path)[0]
    if not graph.is_file():
        raise InputError(f"The graph that {path} was built from, {graph}, does not exist; an engine is blamed with it.")
    check_files(path, told.manifest)
    return graph


def _side(path: Path, graph: Path) -> Side:
    told, model = open_graph(graph)
    kinds = told.precision.split("+")
    precision = "fp32"
    if "bf16" in kinds:
        model, precision = widen(model, "bf16"), "bf16"
    elif "f16" in kinds:
        model, precision = widen(model, "fp16"), "fp16"
    if told.quantised:
        precision = "fp8" if "fp8" in kinds else "int8"
    return Side(path, told, model, precision, properties(model).get(NETWORK_KEY))


def _exact_graph(
    path: Path, store: Store, other: Side | None, size: Size | None, channel_order: Literal["bgr", "rgb"] | None,
    progress: Progress,
) -> Path:  # fmt: skip
    """The graph of a checkpoint that the other side can be held against: of its size, in its pixels."""
    checkpoint = checkpoints.load_checkpoint(path, channel_order, progress)
    contract = checkpoint.contract if other is None else other.told.signature.contract
    pixels = next((one for one in PIXELS if checkpoint.contract.as_pixels(one) == contract), None)
    if pixels is None:
        raise InputError(f"{path} is of a network that cannot take the pixels of {other and other.file}.")
    at = checkpoint.contract.padded_size(*(size or (CROP, CROP))) if other is None else other.size
    return stored_graph(store, checkpoint, at, pixels, progress=progress).path


def _common_size(sides: tuple[Side, Side], asked: Size | None) -> Size:
    """Raises InputError where there is none, or the two are of different networks or pixels."""
    first, second = sides
    if None not in (first.network, second.network) and first.network != second.network:
        raise InputError(
            f"{first.file} is of {first.network} and {second.file} of {second.network}: different networks part "
            "everywhere. Compare a graph with one of the same network."
        )
    contracts = [side.told.signature.contract for side in sides]
    if contracts[0] != contracts[1]:
        raise InputError(
            f"{first.file} takes {contracts[0].name} and {second.file} {contracts[1].name}; one frame must mean the "
            "same to both: export them with the same --pixels."
        )
    sizes = {size for size in (first.size, second.size) if size is not None}
    if len(sizes) > 1:
        texts = " and ".join(f"{height}x{width}" for height, width in sorted(sizes))
        raise InputError(f"The graphs take {texts}; compare graphs of one size, or of every size with --size.")
    padded = contracts[0].padded_size(*(asked or next(iter(sizes), (CROP, CROP))))
    if sizes and padded not in sizes:
        height, width = sizes.pop()
        raise InputError(f"--size {padded[0]}x{padded[1]}: the graph takes {height}x{width}; leave --size out.")
    return padded


def _frames(folder: Path | None, size: Size, side: Side) -> tuple[Sequence[Frame], str]:
    text = f"{size[0]}x{size[1]}"
    if folder is None:
        return (synthetic_pair(SEED, *size, "heldout")[0],), f"a drawn frame of {text}"
    pictures, there = folder_frames(folder, size, side.told.signature.contract)
    return pictures, f"{len(pictures)} frame(s) of {text}, from {there} in {folder.name}"


def _engine_note(side: Side, tensor: NDArray[Any]) -> str:
    """What the engine itself gives, held against its graph, where it can run."""
    told = read_engine(side.file)
    try:
        with open_engine(pick_engine(told.product, told.precision).name, None, side.file) as runner:
            given = runner.run(tensor)
    except MissingRuntimeError as error:
        return f"{side.file.name} itself was not run ({error}); its graph stands for it."
    with open_engine("onnxruntime", None, companions(side.file)[0]) as runner:
        expected = runner.run(tensor)
    contract = told.contract
    peak = 255.0 if contract.dtype == "uint8" else contract.high - contract.low
    decibels = decibels_text(psnr_db(given, expected, peak=peak), 1)
    return f"{side.file.name} itself gives its graph's frame with {decibels} dB."
