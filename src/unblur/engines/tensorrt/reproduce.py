"""Write what repeats an engine's latency with other tools: command lines and a C++ program, made to be comparable.

Nothing is run here. Flags are spelled out where a tool's default differs between releases: trtexec 11 has CUDA graph,
spin wait, no transfers and a separate profile run by default, trtexec 10 none of them (NVIDIA/TensorRT
samples/common/sampleOptions.cpp; docs.nvidia.com, migration of trtexec).
"""

from __future__ import annotations

import importlib.resources
import os
import shlex
import string
from dataclasses import dataclass
from pathlib import Path

from unblur.core.artefacts import protect, text_with, write_bytes
from unblur.core.errors import InputError
from unblur.engines.tensorrt.manifest import check_files, companions, read_manifest
from unblur.engines.tensorrt.profiles import Profile, profiles_from_json
from unblur.engines.tensorrt.targets import PORTABLE
from unblur.graphs.file import open_graph

WARM_UP_MS, SECONDS, FRAMES = 500, 10, 300
DEFAULT_LEVEL = 3
"""The builder's optimisation level where none was asked (trtexec --help)."""

PROGRAM = ("measure.cpp", "CMakeLists.txt")
SOURCES = importlib.resources.files("unblur.engines.tensorrt") / "reproduction"

NOTES = {
    "trtexec-10": "trtexec of TensorRT 10.x. What 11.x does by default is spelled out.",
    "trtexec-11": "trtexec of TensorRT 11.x: CUDA graph, spin wait, no transfers and a separate profile run are its\n"
    "# defaults; the flags that 10.x needs for them are deprecated and do nothing here.",
    "tensorrt-rtx": "tensorrt_rtx of the TensorRT for RTX SDK: spin wait and no transfers are its defaults.",
    "polygraphy": "Polygraphy builds an engine of the same graph and compares its result; its times are no benchmark.",
}
"""The first line of each script."""

Command = list[str]


@dataclass(frozen=True)
class Subject:
    """An engine as the commands name it: paths as seen from the folder, `tensor` the input, its shape per profile.

    `pixels`: the values of the darkest and the brightest.
    """

    engine: str
    graph: str
    product: str
    version: str
    targets: tuple[str, ...]
    level: int
    tensor: str
    dims: tuple[int | None, ...]
    profile: Profile
    dynamic: bool
    pixels: tuple[float, float]

    def shape(self, size: tuple[int, int]) -> str:
        """`input:1x3x720x1280`: the open dimensions are height, then width."""
        sizes = iter(size)
        return f"{self.tensor}:" + "x".join(str(next(sizes) if d is None else d) for d in self.dims)

    @property
    def range(self) -> Command:
        """What a builder is told of a dynamic graph's sizes."""
        if not self.dynamic:
            return []
        profile = self.profile
        named = (("min", profile.least), ("opt", profile.best), ("max", profile.most))
        return [f"--{name}Shapes={self.shape(size)}" for name, size in named]

    @property
    def at(self) -> Command:
        """What a dynamic engine is told of the frame that is timed."""
        return [f"--shapes={self.shape(self.profile.best)}"] if self.dynamic else []


def write_reproduction(engine: Path, output: Path) -> Path:
    """Fill a folder with scripts, the program and a README for an engine that unblur built.

    What else is in such a folder, as the times that the scripts measured, stays. Raises InputError where the engine's
    companions are missing or of another build, where `output` holds something that is not such a folder, and as
    `protect`.
    """
    if output.exists() and not (output / PROGRAM[0]).is_file():
        raise InputError(f"{output} exists and is not what `unblur reproduce` wrote; name another folder.")
    subject = _subject(engine, output)
    files = {f"{name}.sh": _script(name, commands) for name, commands in scripts(subject).items()}
    files |= {name: (SOURCES / name).read_text() for name in PROGRAM} | {"README.md": _readme(subject)}
    begins = {output / name: text_with("\n".join(text.split("\n")[:2])) for name, text in files.items()}
    protect(begins, [engine, *companions(engine)])
    for name, text in files.items():
        write_bytes(output / name, text.encode())
        (output / name).chmod(0o755 if name.endswith(".sh") else 0o644)
    return output


def scripts(subject: Subject) -> dict[str, list[Command]]:
    """Name of each script -> its commands, in their order."""
    return {
        "trtexec-10": _trtexec(subject, 10),
        "trtexec-11": _trtexec(subject, 11),
        "tensorrt-rtx": _tensorrt_rtx(subject),
        "polygraphy": _polygraphy(subject),
    }


def _trtexec(subject: Subject, major: int) -> list[Command]:
    own = subject.product == "tensorrt" and subject.version.split(".")[0] == str(major)
    engine = subject.engine if own else f"trtexec-{major}.engine"
    # Strong typing is a flag of 10 and always on in 11, where the flag does nothing.
    build = ["trtexec", f"--onnx={subject.graph}", f"--saveEngine={engine}", *subject.range,
             *(["--stronglyTyped"] if major == 10 else []), f"--builderOptimizationLevel={subject.level}",
             "--noTF32", "--profilingVerbosity=detailed", "--skipInference"]  # fmt: skip
    spelled = ["--useCudaGraph", "--useSpinWait", "--noDataTransfers"] if major == 10 else []
    timing = ["trtexec", f"--loadEngine={engine}", *subject.at, *spelled, f"--warmUp={WARM_UP_MS}",
              f"--duration={SECONDS}", f"--iterations={FRAMES}", "--infStreams=1", "--percentile=90,95,99",
              f"--exportTimes=trtexec-{major}.times.json"]  # fmt: skip
    profile = ["trtexec", f"--loadEngine={engine}", *subject.at, "--dumpProfile", "--profilingVerbosity=detailed",
               *(["--separateProfileRun"] if major == 10 else []), f"--exportProfile=trtexec-{major}.profile.json",
               f"--exportLayerInfo=trtexec-{major}.engine.layers.json"]  # fmt: skip
    graph = ["cp", subject.graph, f"trtexec-{major}.engine.onnx"]
    return [*([] if own else [build]), timing, profile, graph]


def _tensorrt_rtx(subject: Subject) -> list[Command]:
    own = subject.product == "tensorrt-rtx"
    engine = subject.engine if own else "tensorrt-rtx.engine"
    build = ["tensorrt_rtx", f"--onnx={subject.graph}", f"--saveEngine={engine}", *subject.range,
             "--profilingVerbosity=detailed", "--skipInference"]  # fmt: skip
    cached = ["tensorrt_rtx", f"--loadEngine={engine}", *subject.at, "--runtimeCacheFile=tensorrt-rtx.cache"]
    eager = ["--specializeStrategyDS=eager"] if subject.dynamic else []
    timing = [*cached, *eager, "--rtxCudaGraphStrategy=wholeGraph", f"--warmUp={WARM_UP_MS}",
              f"--duration={SECONDS}", f"--iterations={FRAMES}"]  # fmt: skip
    profile = [*cached, "--dumpProfile", "--dumpLayerInfo"]
    return [*([] if own else [build]), timing, profile]


def _polygraphy(subject: Subject) -> list[Command]:
    rtx = subject.product == "tensorrt-rtx"
    product = ["env", f"POLYGRAPHY_USE_TENSORRT_RTX={int(rtx)}", "polygraphy"]
    families = [f"{t[2:-1]}.{t[-1]}" for t in subject.targets if t != PORTABLE] if rtx else []
    aimed = ["--compute-capabilities", *families] if families else []
    # Polygraphy and unblur's builder clear TF32, trtexec leaves it on; strong typing is a flag of TensorRT 10.
    typed = [] if rtx else ["--strongly-typed", f"--builder-optimization-level={subject.level}"]
    sizes: Command = []
    if subject.dynamic:
        named = (("min", subject.profile.least), ("opt", subject.profile.best), ("max", subject.profile.most))
        for name, size in named:
            sizes += [f"--trt-{name}-shapes", _bracketed(subject.shape(size))]
    convert = [*product, "convert", subject.graph, "--convert-to", "trt", "-o", "polygraphy.engine", *sizes, *aimed,
               *typed, "--profiling-verbosity", "detailed", "-vvv"]  # fmt: skip
    frame = ["--input-shapes", _bracketed(subject.shape(subject.profile.best))]
    run = [*product, "run", subject.graph, "--onnxrt", "--trt", *sizes, *typed, *frame, "--val-range",
           "[{:g},{:g}]".format(*subject.pixels), "--compare", "psnr", "--validate"]  # fmt: skip
    return [convert, run]


def _bracketed(shape: str) -> str:
    """`input:1x3x48x64` as Polygraphy writes it: `input:[1,3,48,64]`."""
    name, _, dims = shape.rpartition(":")
    return f"{name}:[{dims.replace('x', ',')}]"


def _subject(engine: Path, output: Path) -> Subject:
    manifest = read_manifest(engine)
    check_files(engine, manifest)
    graph = companions(engine)[0]
    source, model = open_graph(graph)
    (tensor,) = model.graph.input
    dims = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.type.tensor_type.shape.dim)
    profiles = profiles_from_json(manifest["profiles"]) if "profiles" in manifest else ()
    if None not in dims and not profiles:
        profiles = (Profile.only((manifest["height"], manifest["width"])),)
    if not profiles:
        raise InputError(f"{companions(engine)[1]} names no size of an engine that takes several; build it again.")
    level: int | None = manifest.get("recipe", {}).get("optimization_level")
    start = output.resolve()
    return Subject(
        os.path.relpath(engine.resolve(), start),
        os.path.relpath(graph.resolve(), start),
        manifest["product"],
        manifest["version"],
        tuple(manifest["targets"]),
        DEFAULT_LEVEL if level is None else level,
        tensor.name,
        dims,
        profiles[0],
        None in dims,
        (source.signature.contract.low, source.signature.contract.high),
    )


def _script(name: str, commands: list[Command]) -> str:
    lines = [" \\\n  ".join(shlex.quote(word) for word in command) for command in commands]
    return "\n".join(["#!/bin/sh", f"# {NOTES[name]}", "set -eu", 'cd "$(dirname "$0")"', "", *lines, ""])


def _readme(subject: Subject) -> str:
    size = subject.profile.best
    template = string.Template((SOURCES / "README.md").read_text())
    return template.substitute(
        engine=subject.engine,
        graph=subject.graph,
        product=subject.product,
        version=subject.version,
        targets=", ".join(subject.targets),
        size="{}x{}".format(*size),
        option=" -DUNBLUR_RTX=ON" if subject.product == "tensorrt-rtx" else "",
        arguments=shlex.join([subject.engine, *(["0", *map(str, size)] if subject.dynamic else [])]),
    )
