"""pipeline.toml: the one configuration. Defaults < the file < flags (`unblur.pipeline.resolve`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from unblur.calibration.algorithms import ALGORITHMS, BEST, DEFAULT_ALGORITHM
from unblur.calibration.repairs import names as repairs
from unblur.compare.judge.budgets import Budget
from unblur.core.bounds import check_pixels
from unblur.core.config import Section, Seed, Side, Threads
from unblur.core.errors import InputError, nearest
from unblur.engines.catalogue import parse_device
from unblur.engines.engine import HANG_SECONDS
from unblur.engines.tensorrt.builder import LEVELS
from unblur.engines.tensorrt.profiles import parse_profile
from unblur.engines.tensorrt.targets import parse_targets
from unblur.graphs.rewrites.keeping import DEFAULT, NONE
from unblur.images.contract import PixelContract, Pixels, parse_contract
from unblur.pipeline.places import BUNDLED, BUNDLED_MANIFEST

SIDE = 256
"""Height and width, in pixels, unless somebody says."""

PSNR_LOSS_DB = 0.05
"""What 8 bits may lose of PSNR on the mean of held-out frames, unless somebody says."""


def _listed(value: Any) -> Iterable[Any]:
    """A list as it is, one value as a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


@contextmanager
def _refused() -> Iterator[None]:
    """What is refused within, as pydantic wants it of a validator."""
    try:
        yield
    except InputError as error:
        raise ValueError(str(error)) from error


def _known_device(text: str) -> str:
    with _refused():
        parse_device(text)
    return text


Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8", "best"]
Device = Annotated[str, AfterValidator(_known_device)]
"""Of engines on a GPU: "cuda:1" for the second; empty for the first."""


class NetworkSection(Section):
    """The checkpoint, and the channel order it was trained with: weights do not tell it, None is the papers'.

    A float32 graph (FILE.onnx) may stand in its place; then `contract` says its pixels where it does not, and
    `output_name` which of several outputs is the restored frame.
    """

    checkpoint: Path = BUNDLED
    channel_order: Literal["bgr", "rgb"] | None = None
    contract: str = ""
    output_name: str = ""

    @property
    def is_graph(self) -> bool:
        return self.checkpoint.suffix.lower() == ".onnx"

    @property
    def pixel_contract(self) -> PixelContract | None:
        """Of a graph, where it was said."""
        return parse_contract(self.contract) if self.contract else None

    @model_validator(mode="after")
    def _what_goes_together(self) -> NetworkSection:
        with _refused():
            _ = self.pixel_contract
        if self.is_graph and self.channel_order:
            raise ValueError(f"channel_order is of weights, and {self.checkpoint} is a graph; leave it out")
        if not self.is_graph and (self.contract or self.output_name):
            raise ValueError(
                f"contract and output_name are of a graph, and {self.checkpoint} is none; name it: FILE.onnx"
            )
        return self


class FramesSection(Section):
    """Frames to compare on: a folder and its sharp partners, a data set ("gopro:FOLDER"), or `generated` drawn pairs
    of the graph's size.
    """

    blurred: Path | None = None
    sharp: Path | None = None
    generated: int = Field(4, ge=1, le=1000)
    seed: Seed = 0


class GraphSection(Section):
    """The exported graphs: one for each size (HEIGHTxWIDTH) or (`dynamic`) one of every size; the pixels they take.

    `height` and `width` are another spelling of one size.
    """

    sizes: tuple[tuple[Side, Side], ...] = Field(((SIDE, SIDE),), min_length=1)
    dynamic: bool = False
    pixels: Pixels = "float"
    opset: Literal[19, 20, 21] = 20
    prove: bool = False
    height: Side | None = Field(None, exclude=True, repr=False)
    width: Side | None = Field(None, exclude=True, repr=False)

    @field_validator("sizes", mode="before")
    @classmethod
    def _read_sizes(cls, sizes: Any) -> Any:
        return tuple(map(_size, _listed(sizes)))

    @field_validator("sizes")
    @classmethod
    def _each_once(cls, sizes: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return tuple(dict.fromkeys(sizes))

    @model_validator(mode="after")
    def _one_spelling(self) -> GraphSection:
        if self.height is not None or self.width is not None:
            if "sizes" in self.model_fields_set:
                raise ValueError("sizes and height or width are two spellings of one thing; give one")
            object.__setattr__(self, "sizes", ((self.height or SIDE, self.width or SIDE),))  # the section is frozen
            for key in ("height", "width"):
                object.__setattr__(self, key, None)
        for size in self.sizes:
            check_pixels(*size)
        return self


class BuildSection(Section):
    """The TensorRT engines, one for each precision. `required = false` leaves them out, visibly, where the package or
    the GPU is missing. `shapes`: MIN:OPT:MAX of a dynamic graph, graph.sizes where there are none. What they cost in
    decibels is measured on the pictures of [frames], on drawn ones where there are none.

    precisions ["best"] builds every precision that the targets run, and takes the one that is fastest here or, without
    a GPU, has the least lower bound. 8 bits are calibrated as [calibration] says, and may lose `psnr_loss_db`.
    """

    enabled: bool = True
    required: bool = False
    precisions: Annotated[tuple[Precision, ...], BeforeValidator(_listed)] = ("fp16",)
    flavor: Literal["auto", "tensorrt", "tensorrt-rtx"] = "auto"
    targets: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    optimization_level: int | None = Field(None, ge=LEVELS.start, lt=LEVELS.stop)
    builds: int = Field(1, ge=1, le=100)
    fidelity_db: float | None = Field(None, gt=0)
    psnr_loss_db: float = PSNR_LOSS_DB
    precision: str | None = Field(None, exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "precision" not in values:
            return values
        if "precisions" in values:
            raise ValueError("precision and precisions are two spellings of one thing; give one")
        return values | {"precisions": (values["precision"],)}

    @field_validator("precisions")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(names))

    @field_validator("shapes", mode="before")
    @classmethod
    def _read_shapes(cls, texts: Any) -> Any:
        with _refused():
            return tuple(parse_profile(str(text)).to_text() for text in _listed(texts))

    @model_validator(mode="after")
    def _best_stands_alone(self) -> BuildSection:
        if not self.precisions or ("best" in self.precisions and len(self.precisions) > 1):
            raise ValueError('precisions lists fp32, fp16, bf16, int8, fp8, or is ["best"] alone')
        return self

    @field_validator("targets")
    @classmethod
    def _known(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        with _refused():
            return parse_targets(",".join(targets)) if targets else ()


class CalibrationSection(Section):
    """How graphs in 8 bits get their ranges: frames pinned in a manifest, an algorithm or "best", and repairs.

    `form`: which runtime `unblur calibrate` writes for. What that graph must keep of fidelity on the worst frame and
    may lose of PSNR: None demands nothing.

    `keep`: what stays in floating point: "default", "none", files of names, names or patterns of them.
    """

    manifest: Path = BUNDLED_MANIFEST
    algorithm: str = DEFAULT_ALGORITHM
    repairs: tuple[str, ...] = (repairs.DEFAULT,)
    keep: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)] = (DEFAULT,)
    form: Literal["openvino", "onnxruntime", "tensorrt", "tensorrt-rtx", "fp8"] = "openvino"
    fidelity_db: float | None = None
    psnr_loss_db: float | None = None

    @field_validator("algorithm")
    @classmethod
    def _known_algorithm(cls, name: str) -> str:
        known = (*ALGORITHMS, BEST)
        if name not in known:
            raise ValueError(f"unknown algorithm {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        return name

    @field_validator("keep")
    @classmethod
    def _none_stands_alone(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if NONE in words and len(words) > 1:
            raise ValueError(f"keep is {NONE!r} alone, or names what stays; got {', '.join(words)}")
        return words

    @field_validator("repairs")
    @classmethod
    def _known_repairs(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        with _refused():
            return repairs.check_repairs(names)


class CompareSection(Section):
    """Engines beside the PyTorch reference, threads of each (0: physical cores), timed rounds (0: no latency), and
    whether it is measured where each engine loses its decibels, and whether the detectors look at every picture.

    `repeats`: short sessions of latency with every engine opened anew, as a gate of latency needs them. `baseline`: an
    accepted report that this one must not lose against. `cost`: also memory, loading and first frame of each engine, in
    a process of its own. `hang_seconds`: each engine runs in a process of its own, and one that does not answer for so
    long is ended; 0 runs all in one process, for a debugger.
    """

    engines: tuple[str, ...] = ("onnxruntime", "openvino")
    device: Device = ""
    threads: Threads = 0
    rounds: int = Field(15, ge=0, le=100_000)
    repeats: int = Field(0, ge=0, le=1000)
    baseline: Path | None = None
    cost: bool = False
    waterfall: bool = True
    detectors: bool = True
    hang_seconds: float = Field(HANG_SECONDS, ge=0, le=1e6, allow_inf_nan=False)


class SearchSection(Section):
    """The precision search: for which engine, what shall be small, what may be lost (None: nothing is demanded).

    `form`: None is the engine's own. `levels`: bits a group may have, () for the engine's own.
    """

    engine: Literal["openvino", "onnxruntime", "tensorrt-rtx"] = "openvino"
    objective: Literal["latency", "bytes", "macs"] = "latency"
    psnr_loss_db: float | None = 0.02
    fidelity_db: float | None = None
    worst_db: float | None = None
    form: str | None = None
    levels: tuple[int, ...] = ()
    gpu: str = "RTX 4090"
    algorithm: str = BEST


class SpeedSection(Section):
    """Engines that are timed against eager PyTorch, and timed rounds."""

    engines: tuple[str, ...] = (
        "torch-channels-last", "torch-compile", "torch-bf16", "torch-compile-bf16", "onnxruntime", "openvino",
        "openvino-bf16",
    )  # fmt: skip
    device: Device = ""
    rounds: int = Field(15, ge=1, le=100_000)


class PathsSection(Section):
    """Where artefacts go."""

    artifacts: Path = Path("artifacts")


class PipelineConfig(Section):
    """The whole file. Relative paths are relative to the file."""

    network: NetworkSection = NetworkSection()
    frames: FramesSection = FramesSection()
    graph: GraphSection = GraphSection()
    calibration: CalibrationSection = CalibrationSection()
    build: BuildSection = BuildSection()
    compare: CompareSection = CompareSection()
    search: SearchSection = SearchSection()
    speed: SpeedSection = SpeedSection()
    budgets: dict[str, Budget] = Field(default_factory=dict)
    paths: PathsSection = PathsSection()

    @model_validator(mode="after")
    def _sharp_needs_blurred(self) -> PipelineConfig:
        if self.frames.sharp is not None and self.frames.blurred is None:
            raise ValueError("frames.sharp is given without frames.blurred; name both folders")
        return self


def _size(value: Any) -> Any:
    """ "720x1280" -> (720, 1280); what is none is pydantic's to refuse."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d{1,9})x(\d{1,9})\s*", value)
    if not match:
        raise ValueError(f"{value!r} is not a size; write HEIGHTxWIDTH, as 720x1280")
    return int(match[1]), int(match[2])
