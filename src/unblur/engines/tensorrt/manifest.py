"""The manifest beside an engine: what it is, and whether it may run here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from unblur.core.artefacts import Recognise, file_digest, json_with
from unblur.core.bounds import SIDE_MAX
from unblur.core.config import Section, check
from unblur.core.errors import InputError
from unblur.core.reading import parse_json, read_regular
from unblur.engines.tensorrt.product import Device, Product, ProductName
from unblur.engines.tensorrt.targets import PORTABLE
from unblur.graphs.file import is_exported

FIELDS = ("product", "version", "precision", "engine_sha256", "graph_sha256", "height", "width", "targets")

Count = Annotated[int, Field(ge=0, lt=2**63)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Side = Annotated[int, Field(ge=1, le=SIDE_MAX)]
Size = Annotated[list[Side], Field(min_length=2, max_length=2)]
Target = Annotated[str, Field(pattern=f"^({PORTABLE}|sm[0-9]{{2,3}})$")]


class Record(Section):
    """A table of the manifest. What an older or newer unblur has written besides is let be."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)


class ProfileRecord(Record):
    """Smallest, best and largest (height, width)."""

    min: Size
    opt: Size
    max: Size


class RecipeRecord(Record):
    """What the build was asked for."""

    precision: str | None = None
    targets: list[Target] = Field(default_factory=list)
    profiles: list[ProfileRecord] = Field(default_factory=list)
    optimization_level: int | None = None
    builds: Annotated[int, Field(ge=1, le=100)] = 1


class GpuRecord(Record):
    """The GPU that the kernels were chosen on."""

    name: str
    target: Target


class KernelRecord(Record):
    """A kernel, as unblur.engines.xray.kernels writes it."""

    name: str = ""
    kind: str = ""
    inputs: list[str] = Field(default_factory=list)
    constants: list[str] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)
    nodes: list[str] = Field(default_factory=list)


class TargetRecord(Record):
    """What the engine is for one target."""

    kernels: Count = 0
    bytes_moved: Count = 0
    activation_bytes: Count = 0
    convolutions_run_in: dict[str, Count] = Field(default_factory=dict)
    each_kernel: list[KernelRecord] = Field(default_factory=list)


class AttemptRecord(Record):
    """One of the builds."""

    sha256: Sha256
    seconds: float


class EngineManifest(Record):
    """The whole manifest, by type: which fields must be there is for those to say who read them (`read_manifest`)."""

    product: ProductName = "tensorrt"
    version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*")] = "0.0"
    precision: str = ""
    recipe: RecipeRecord = RecipeRecord()
    gpu: GpuRecord | None = None
    network: str | None = None
    checkpoint_sha256: Sha256 | None = None
    source_graph_sha256: Sha256 | None = None
    graph_sha256: Sha256 = ""
    engine_sha256: Sha256 = ""
    calibration: dict[str, Any] | None = None
    pixel_contract: dict[str, Any] = Field(default_factory=dict)
    height: Side | None = None
    width: Side | None = None
    profiles: Annotated[list[ProfileRecord], Field(min_length=1, default_factory=list)]
    versions: dict[str, str] = Field(default_factory=dict)
    engine_bytes: Count = 0
    build_seconds: float = 0.0
    builds: list[AttemptRecord] = Field(default_factory=list)
    chosen_build: Count = 0
    warnings: list[str] = Field(default_factory=list)
    seen_at: Size | None = None
    targets: dict[Target, TargetRecord] = Field(default_factory=dict)


def companions(engine: Path) -> tuple[Path, Path]:
    """Where the graph and the manifest of an engine file lie. Raises InputError for a path without a name."""
    if not engine.name:
        raise InputError(f"{engine} is a directory; name the engine file in it.")
    return engine.with_name(engine.name + ".onnx"), engine.with_name(engine.name + ".json")


def outputs_of(engine: Path) -> dict[Path, Recognise]:
    """The three files of a build, with what tells unblur's own from others': for `protect`."""
    graph, manifest = companions(engine)
    is_manifest = json_with("engine_sha256", "graph_sha256")

    def is_engine(_: Path) -> bool:
        # A build that is killed while it replaces the three leaves the graph, but no manifest.
        return (manifest.is_file() and is_manifest(manifest)) or (graph.is_file() and is_exported(graph))

    return {engine: is_engine, graph: is_exported, manifest: is_manifest}


def read_manifest(engine: Path, *fields: str) -> dict[str, Any]:
    """The manifest beside an engine, as `EngineManifest` has it. Raises InputError where it is missing, cut short, has
    a field of another type, or lacks one of `fields` (FIELDS where none is named).
    """
    path = companions(engine)[1]
    try:
        manifest = parse_json(read_regular(path))
    except FileNotFoundError as error:
        raise InputError(
            f"The engine's manifest {path} does not exist: the engine was not finished, or is not unblur's; build it."
        ) from error
    except OSError as error:
        raise InputError(f"The engine's manifest {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(
            f"{path} is no manifest of an engine, or only a part of one; build the engine again."
        ) from error
    wanted = fields or FIELDS
    lacking = [field for field in wanted if not isinstance(manifest, dict) or field not in manifest]
    if lacking:
        raise InputError(f"{path} is no manifest of an engine: it has no {', '.join(lacking)}; build the engine again.")
    check(EngineManifest, manifest, f"{path} is no manifest of an engine (build the engine again)")
    if (manifest.get("height") is None) != (manifest.get("width") is None):
        raise InputError(f"{path} is no manifest of an engine: it has one side of its size; build the engine again.")
    return dict(manifest)


def check_files(engine: Path, manifest: dict[str, Any]) -> None:
    """Raise InputError unless engine and graph are the files that the manifest describes, whole."""
    graph, path = companions(engine)
    for file, field in ((engine, "engine_sha256"), (graph, "graph_sha256")):
        if not file.is_file():
            raise InputError(f"{file} does not exist, but {path} describes it; build the engine again.")
        if file_digest(file) != manifest[field]:
            raise InputError(f"{file} is not the file that {path} describes; build the engine again.")


def check_manifest(manifest: dict[str, Any], engine: Path, product: Product, device: Device | None) -> None:
    """Raise InputError, in one sentence with the cure, where an engine is of another product, version or GPU than those
    at hand.

    `device` is the GPU it shall run on, None to leave that to the runtime.
    """
    cure = f"build it again: unblur build --rebuild {engine}"
    made = (manifest["product"], manifest["version"])
    if made[0] != product.name:
        raise InputError(
            f"{engine} was built by {made[0]}, this is {product.name}; open it with --flavor {made[0]}, or build its "
            f"graph again with --flavor {product.name}."
        )
    if made[1] != product.version:
        raise InputError(f"{engine} was built by {made[0]} {made[1]}, this is {product.version}; {cure}.")
    if device is not None:
        _check_device(manifest, engine, device, cure)


def _check_device(manifest: dict[str, Any], engine: Path, device: Device, cure: str) -> None:
    gpu = manifest.get("gpu")
    if gpu is not None:
        # libnvinfer chose the kernels by timing them on that GPU; on another they may fail or be slow.
        if (gpu["name"], gpu["target"]) != (device.name, device.target):
            raise InputError(f"{engine} was built on {gpu['name']} ({gpu['target']}), this is {device.name}; {cure}.")
        return
    targets = list(manifest["targets"])
    # A GPU newer than every family of the list, or of data centres, is for the runtime to judge.
    portable = targets == [PORTABLE] and int(device.target.removeprefix("sm")) >= 80
    if not portable and device.target not in targets:
        raise InputError(
            f"{engine} was built for {', '.join(targets)}, this is {device.name} ({device.target}); build its graph "
            f"again with --target {device.target}."
        )
