"""What a training run is made of: one frozen TOML file. Two runs of the same file give the same weights on a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, ValidationInfo, create_model, field_validator

from unblur.core.artefacts import file_digest, value_digest
from unblur.core.bounds import COUNT_MAX, SIDE_MAX
from unblur.core.config import Section, Seed, Threads, check, read_toml
from unblur.core.errors import InputError, nearest
from unblur.images.contract import PixelContract
from unblur.networks.registry import family_of, preset_names


class Data(Section):
    """Where pairs come from: a data set's folder, or drawn scenes (`scenes` of them, `scene_side_px` square).

    `largest_scale` above 1 magnifies some of the photographs in them, for truths that are soft.
    """

    source: Literal["synthetic", "gopro", "hide", "realblur"] = "synthetic"
    folder: Path | None = None
    scenes: int = Field(512, ge=1, le=COUNT_MAX)
    scene_side_px: int = Field(256, ge=16, le=SIDE_MAX)
    largest_scale: float = Field(1.0, ge=0.5, le=4.0)
    workers: Threads = 2


class Stage(Section):
    """One stretch of training: random crops, and after a linear warm-up a cosine or a line from `first_lr` to
    `last_lr`."""

    crop_px: int = Field(256, ge=16, le=SIDE_MAX)
    batch: int = Field(8, ge=1, le=4096)
    iterations: int = Field(ge=1, le=1000 * COUNT_MAX)
    first_lr: float = Field(1e-4, gt=0)
    last_lr: float = Field(1e-7, gt=0)
    warmup: int = Field(0, ge=0, le=1000 * COUNT_MAX)
    decay: Literal["cosine", "linear"] = "cosine"


class FakeQuantise(Section):
    """Fine-tuning for 8 bits: the grid of maps (u8 with a zero point, s8 without), one weight scale a channel or one
    in all, and the training samples whose ranges are taken before the first iteration."""

    activation: Literal["u8", "s8"] = "u8"
    per_channel: bool = True
    samples: int = Field(32, ge=1, le=COUNT_MAX)


class Evaluation(Section):
    """Held-out synthetic pairs: `pairs` of `side_px`, drawn from other photographs and seeds than any training."""

    pairs: int = Field(32, ge=1, le=COUNT_MAX)
    side_px: int = Field(192, ge=16, le=SIDE_MAX)
    seed: Seed = 0


class TrainingConfig(Section):
    """A whole run; `configuration_of` adds the tables of a network's family.

    `amp` "auto" is bfloat16 on a CUDA device that has it, float16 on an older one, off on a CPU. `begin_with` is a
    checkpoint of the same network to go on from, instead of the recipe's first weights.
    `channel_order` is the order the network takes and `begin_with` was trained with; None: that of its paper.
    """

    network: str
    seed: Seed = 666
    begin_with: Path | None = None
    channel_order: Literal["bgr", "rgb"] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    threads: Threads = 0
    save_every: int = Field(1000, ge=1, le=1000 * COUNT_MAX)
    data: Data = Data()
    fake_quantise: FakeQuantise | None = None
    evaluation: Evaluation = Evaluation()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    @field_validator("network")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in preset_names():
            raise ValueError(f"unknown network {name!r}{nearest(name, preset_names())}; known: {preset_names()}")
        return name

    @field_validator("stages")
    @classmethod
    def _whole_crops(cls, stages: tuple[Stage, ...], info: ValidationInfo) -> tuple[Stage, ...]:
        multiple = family_of(info.data["network"]).contract.multiple if "network" in info.data else 1
        for k, stage in enumerate(stages):
            if stage.crop_px % multiple:
                raise ValueError(f"stages.{k}.crop_px is {stage.crop_px}; the network takes multiples of {multiple}")
        return stages

    @property
    def iterations(self) -> int:
        """Iterations of all stages together."""
        return sum(stage.iterations for stage in self.stages)

    @property
    def contract(self) -> PixelContract:
        """The pixels that the network takes."""
        contract = family_of(self.network).contract
        return replace(contract, channel_order=self.channel_order) if self.channel_order else contract

    @property
    def settings(self) -> dict[str, Any]:
        """What the family's recipe is told, but for the run's "amp"."""
        return self.model_dump(include=set(family_of(self.network).settings.model_fields)) | {"seed": self.seed}

    def digest(self, begin_with: str | None = None) -> str:
        """SHA-256 of everything that decides the weights: worker count, saving and final evaluation do not.

        `begin_with`: the digest of that checkpoint, for who has read it; it is read where None.
        """
        out: Any = {"save_every": True, "evaluation": True, "begin_with": True, "data": {"workers"}}
        values = self.model_dump(mode="json", exclude=out)
        if self.fake_quantise is None:
            del values["fake_quantise"]  # as in the digests of runs from before there was one
        if self.channel_order is None:
            del values["channel_order"]
        for stage in values["stages"]:
            if stage["decay"] == "cosine":
                del stage["decay"]
        for table, key, path in _named_files(self):
            values[table][key] = file_digest(path)
        if self.begin_with is not None:
            values["begin_with"] = begin_with or file_digest(self.begin_with)
        return value_digest(values)


def configuration_of(network: object) -> type[TrainingConfig]:
    """TrainingConfig with the tables of the family of a preset; without any for what is none."""
    if network not in preset_names():
        return TrainingConfig
    bases: Any = (TrainingConfig, family_of(str(network)).settings)
    combined: Any = create_model("TrainingConfig", __base__=bases)
    return cast(type[TrainingConfig], combined)


def load_config(path: Path, channel_order: str | None = None) -> TrainingConfig:
    """Read and check a TOML file; `channel_order` overrides that of the file.

    Raises InputError naming the key, its value and the nearest known key.
    """
    values = read_toml(path) | ({"channel_order": channel_order} if channel_order else {})
    config = check(configuration_of(values.get("network")), values, str(path))
    if config.fake_quantise is not None and config.begin_with is None:
        raise InputError(f"{path}: fake_quantise fine-tunes a trained network; name its checkpoint in begin_with.")
    if config.data.source != "synthetic" and config.data.folder is None:
        raise InputError(f"{path}: data.source is {config.data.source!r}, so data.folder must name its folder.")
    folder = config.data.folder
    if folder is not None and not folder.is_absolute():  # relative to the file, wherever the command is run
        data = config.data.model_copy(update={"folder": (path.parent / folder).resolve()})
        config = config.model_copy(update={"data": data})
    for table, key, file in _named_files(config):
        named = getattr(config, table).model_copy(update={key: (path.parent / file).resolve()})
        config = config.model_copy(update={table: named})
    if config.begin_with is not None:
        first = (path.parent / config.begin_with).resolve()
        if not first.is_file():
            raise InputError(f"{path}: begin_with names {first}, which is no file; train that checkpoint first.")
        config = config.model_copy(update={"begin_with": first})
    return config


def _named_files(config: TrainingConfig) -> list[tuple[str, str, Path]]:
    """Files that the family's own tables name: (table, key, path)."""
    tables = {name: getattr(config, name) for name in family_of(config.network).settings.model_fields}
    sections = [(name, table) for name, table in tables.items() if isinstance(table, Section)]
    return [(name, key, value) for name, table in sections for key, value in table if isinstance(value, Path)]
