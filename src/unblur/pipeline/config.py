"""pipeline.toml: the one configuration. Defaults < the file < flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from unblur.calibration.algorithms import ALGORITHMS, BEST, DEFAULT_ALGORITHM
from unblur.calibration.repairs.names import check_repairs
from unblur.compare.judge.budgets import Budget
from unblur.core.bounds import check_pixels
from unblur.core.config import Section, Seed, Side, Threads, check, read_toml, set_value
from unblur.core.errors import InputError, nearest
from unblur.engines.tensorrt.builder import LEVELS
from unblur.engines.tensorrt.targets import parse_targets
from unblur.images.contract import Pixels
from unblur.images.pairs import named_layout
from unblur.pipeline.job import Calibration
from unblur.pipeline.making.scored_engine import PSNR_LOSS_DB
from unblur.pipeline.places import BUNDLED_MANIFEST


class NetworkSection(Section):
    """The checkpoint, and the channel order it was trained with (weights do not tell it)."""

    checkpoint: Path = Path("checkpoints/banet-nano.safetensors")
    channel_order: Literal["bgr", "rgb"] = "bgr"


class FramesSection(Section):
    """Frames to compare on: a folder and its sharp partners, a data set ("gopro:FOLDER"), or `generated` drawn pairs
    of the graph's size.
    """

    blurred: Path | None = None
    sharp: Path | None = None
    generated: int = Field(4, ge=1, le=1000)
    seed: Seed = 0


class GraphSection(Section):
    """The exported graph: one even size, and the pixels it takes."""

    height: Side = 256
    width: Side = 256
    pixels: Pixels = "float"
    opset: Literal[19, 20, 21] = 20
    prove: bool = False

    @model_validator(mode="after")
    def _a_frame(self) -> GraphSection:
        check_pixels(self.height, self.width)
        return self


class BuildSection(Section):
    """The TensorRT engine. `required = false` leaves it out, visibly, where its package or GPU is missing.

    precision "best" builds every precision that the targets run, and takes the one that is fastest here or, without
    a GPU, has the least lower bound. 8 bits are calibrated as [calibration] says, and may lose `psnr_loss_db`.
    """

    enabled: bool = True
    required: bool = False
    precision: Literal["fp32", "fp16", "bf16", "int8", "fp8", "best"] = "fp16"
    flavor: Literal["auto", "tensorrt", "tensorrt-rtx"] = "auto"
    targets: tuple[str, ...] = ()
    optimization_level: int | None = Field(None, ge=LEVELS.start, lt=LEVELS.stop)
    builds: int = Field(1, ge=1, le=100)
    fidelity_db: float | None = Field(None, gt=0)
    psnr_loss_db: float = Field(PSNR_LOSS_DB, ge=0)

    @field_validator("targets")
    @classmethod
    def _known(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return parse_targets(",".join(targets)) if targets else ()
        except InputError as error:
            raise ValueError(str(error)) from error


class CalibrationSection(Section):
    """How graphs in 8 bits get their ranges: frames pinned in a manifest, an algorithm or "best", and repairs."""

    manifest: Path = BUNDLED_MANIFEST
    algorithm: str = DEFAULT_ALGORITHM
    repairs: tuple[str, ...] = ()

    @field_validator("algorithm")
    @classmethod
    def _known_algorithm(cls, name: str) -> str:
        known = (*ALGORITHMS, BEST)
        if name not in known:
            raise ValueError(f"unknown algorithm {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        return name

    @field_validator("repairs")
    @classmethod
    def _known_repairs(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return check_repairs(names)
        except InputError as error:
            raise ValueError(str(error)) from error

    def to_calibration(self) -> Calibration:
        """As engines take it."""
        return Calibration(self.manifest, self.algorithm, self.repairs)


class CompareSection(Section):
    """Engines beside the PyTorch reference, threads of each (0: physical cores), timed rounds (0: no latency)."""

    engines: tuple[str, ...] = ("onnxruntime", "openvino")
    threads: Threads = 0
    rounds: int = Field(15, ge=0, le=100_000)


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
    budgets: dict[str, Budget] = Field(default_factory=dict)
    paths: PathsSection = PathsSection()

    @model_validator(mode="after")
    def _sharp_needs_blurred(self) -> PipelineConfig:
        if self.frames.sharp is not None and self.frames.blurred is None:
            raise ValueError("frames.sharp is given without frames.blurred; name both folders")
        return self


def load_pipeline_config(path: Path, assignments: tuple[str, ...] = ()) -> PipelineConfig:
    """Read pipeline.toml and apply "section.key=value" flags. Raises InputError for anything unknown or wrong."""
    values: dict[str, Any] = read_toml(path)
    for assignment in assignments:
        set_value(values, assignment)
    config = check(PipelineConfig, values, str(path))
    root = path.resolve().parent

    def absolute(section: Section, *keys: str) -> dict[str, Any]:
        given = {key: getattr(section, key) for key in keys}
        return {key: root / value for key, value in given.items() if value is not None}

    frames = absolute(config.frames, "blurred", "sharp")
    if config.frames.blurred is not None:
        layout, folder = named_layout(config.frames.blurred)
        frames["blurred"] = Path(f"{layout}:{root / folder}") if layout else root / folder
    return config.model_copy(
        update={
            "network": config.network.model_copy(update=absolute(config.network, "checkpoint")),
            "calibration": config.calibration.model_copy(update=absolute(config.calibration, "manifest")),
            "frames": config.frames.model_copy(update=frames),
            "paths": config.paths.model_copy(update=absolute(config.paths, "artifacts")),
        }
    )
