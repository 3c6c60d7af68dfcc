"""The configuration in force: defaults < pipeline.toml < flags, and where each value is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.core.config import Section, check, read_toml, set_value
from unblur.images.pairs import named_layout
from unblur.pipeline.config import PipelineConfig
from unblur.pipeline.places import (
    ARTIFACTS,
    bundled_checkpoint,
    bundled_manifest,
    cache_folder,
    find_config,
    stated_folder,
)

SPELLINGS = {"graph.sizes": ("graph.height", "graph.width"), "build.precisions": ("build.precision",)}
"""Keys of a list -> other spellings of a list of one."""


@dataclass(frozen=True)
class Flag:
    """A value from the command line. `name`: what was typed; `clears`: keys whose value in the file went with another
    value of this one, such as the truths of other frames."""

    name: str
    key: str
    value: Any
    clears: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """A configuration, its file (None: there is none) and where its values are from: a flag, the file, "default"."""

    config: PipelineConfig
    file: Path | None
    origins: Mapping[str, str]

    def origin(self, key: str) -> str:
        """ "--size", "pipeline.toml" or "default"."""
        return self.origins.get(key, "default")

    def value(self, key: str) -> Any:
        """Of "section.key", or of a section."""
        value: Any = self.config
        for part in key.split("."):
            value = getattr(value, part)
        return value


def resolve_config(file: Path | None = None, assignments: Sequence[str] = (), flags: Sequence[Flag] = ()) -> Resolved:
    """The configuration of `file`, or of the pipeline.toml in force, under "section.key=value" and other flags.

    Relative paths of the file and of assignments are relative to the file, those of flags to the working directory.
    Raises InputError for anything unknown or wrong, and where a default's file is not there.
    """
    outside = None if file else stated_folder()
    file = file or find_config()
    values: dict[str, Any] = read_toml(file) if file else {}
    told = file.name if file else ""
    origins = {f"{section}.{key}": told for section, keys in values.items() for key in _keys(keys)}
    if outside:
        _put(values, Flag(ARTIFACTS, "paths.artifacts", str(outside)), origins)
    for assignment in assignments:
        key = assignment.partition("=")[0].strip()
        _respell(values, key, origins)
        set_value(values, assignment)
        origins[key] = "--set"
    for flag in flags:
        _put(values, flag, origins)
    _adopt_spellings(origins)
    changed = any(origin != told for origin in origins.values())
    config = check(PipelineConfig, values, f"{file or 'The command line'}{' with flags' if changed and file else ''}")
    return Resolved(_absolute(config, file, origins), file, origins)


def load_pipeline_config(path: Path | None = None, assignments: Sequence[str] = ()) -> PipelineConfig:
    """As `resolve_config`, without the origins."""
    return resolve_config(path, assignments).config


def _put(values: dict[str, Any], flag: Flag, origins: dict[str, str]) -> None:
    for key in flag.clears:
        _drop(values, key)
        origins.pop(key, None)
    _respell(values, flag.key, origins)
    *tables, key = flag.key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
    values[key] = flag.value
    origins[flag.key] = flag.name


def _respell(values: dict[str, Any], key: str, origins: dict[str, str]) -> None:
    """Make room for a key that is another spelling of what the file says."""
    for listed, others in SPELLINGS.items():
        if key == listed:
            for other in others:
                _drop(values, other)
                origins.pop(other, None)
        elif key in others and (before := _drop(values, listed)) is not None:
            origins.pop(listed, None)
            sides = before[0] if isinstance(before, list) and len(before) == 1 else before
            if listed == "graph.sizes" and isinstance(sides, str):  # of 256x256 one side shall be another
                for other, part in zip(others, sides.split("x"), strict=False):
                    set_value(values, f"{other}={part}")


def _drop(values: dict[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    table = values.get(section)
    return table.pop(name, None) if isinstance(table, dict) else None


def _adopt_spellings(origins: dict[str, str]) -> None:
    for listed, others in SPELLINGS.items():
        for other in others:
            if other in origins:
                origins[listed] = origins[other]


def _keys(table: Any) -> Sequence[str]:
    return list(table) if isinstance(table, dict) else ()


def _absolute(config: PipelineConfig, file: Path | None, origins: Mapping[str, str]) -> PipelineConfig:
    """With every path absolute, and the bundled files in the place of defaults that a project has not."""
    root = file.resolve().parent if file else Path.cwd()

    def placed(section: Section, **paths: Path | None) -> Any:
        return section.model_copy(update={key: root / path for key, path in paths.items() if path is not None})

    network, calibration, frames, paths = config.network, config.calibration, config.frames, config.paths
    checkpoint = network.checkpoint if "network.checkpoint" in origins else bundled_checkpoint(root)
    manifest = calibration.manifest if "calibration.manifest" in origins else bundled_manifest(root)
    artifacts = paths.artifacts if file or "paths.artifacts" in origins else cache_folder()
    keep = tuple(str(root / word) if (root / word).is_file() else word for word in calibration.keep)
    blurred = frames.blurred
    if blurred is not None:
        layout, folder = named_layout(blurred)
        blurred = Path(f"{layout}:{root / folder}") if layout else root / folder
        frames = frames.model_copy(update={"blurred": blurred})
    return config.model_copy(
        update={
            "network": placed(network, checkpoint=checkpoint),
            "calibration": placed(calibration, manifest=manifest).model_copy(update={"keep": keep}),
            "frames": placed(frames, sharp=frames.sharp),
            "compare": placed(config.compare, baseline=config.compare.baseline),
            "paths": placed(paths, artifacts=artifacts),
        }
    )
