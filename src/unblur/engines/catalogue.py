"""Engines by name, out of the records of each backend. Nothing else takes a name apart.

Light to import: `open_engine` imports what it needs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, get_args

from unblur.core.bounds import THREADS_MAX
from unblur.core.errors import InputError, MissingRuntimeError, nearest
from unblur.core.provenance import default_threads
from unblur.engines.backends import onnx_runtime, openvino_cpu, pytorch, pytorch_cuda, tensorrt_products
from unblur.engines.backends.pytorch import REFERENCE as REFERENCE
from unblur.engines.engine import Engine, Opening, Precision
from unblur.engines.tensorrt import product

if TYPE_CHECKING:
    from unblur.engines.runner import Runner
    from unblur.engines.source import Weights
    from unblur.images.contract import PixelContract

AUTO = (
    "tensorrt-fp16",
    "tensorrt-rtx-fp16",
    "torch-cuda-form-fp16-graph",
    "tensorrt",
    "tensorrt-rtx",
    "torch-cuda",
    "tensorrt-bf16",
    "tensorrt-rtx-bf16",
    "torch-cuda-bf16-channels-last-graph",
    "tensorrt-int8",
    "tensorrt-rtx-int8",
    "tensorrt-fp8",
    "tensorrt-rtx-fp8",
    "openvino",
    "onnxruntime",
    "torch",
    "openvino-bf16",
    "torch-bf16",
    "openvino-int8",
    "onnxruntime-int8",
)
"""What "auto" goes through: the first that is installed, that a device here runs, and that has the precision, if one is
asked for. A GPU comes first, where one answers. Without TensorRT its best is the exact export form; the compiled sister
is faster still, but compiles for minutes at each new size, which is a choice for a person (docs/gpu.md).
"""

_engines: dict[str, Engine] = {}

CATALOGUE: Mapping[str, Engine] = MappingProxyType(_engines)


def _add(engines: tuple[Engine, ...]) -> None:
    for engine in engines:
        if engine.name in _engines:
            raise ValueError(f"two engines are called {engine.name!r}")
        _engines[engine.name] = engine


for _backend in (pytorch, onnx_runtime, openvino_cpu, pytorch_cuda, tensorrt_products):
    _add(_backend.ENGINES)

_OWN = frozenset(_engines)
"""Those that every process knows, without the added ones."""


@contextmanager
def added(*engines: Engine) -> Iterator[None]:
    """Within, the catalogue has these engines too. Raises ValueError for a name that is taken."""
    _add(engines)
    try:
        yield
    finally:
        for engine in engines:
            del _engines[engine.name]


def find_engine(name: str) -> Engine:
    """The record of a name. Raises InputError naming the nearest known engine."""
    if name not in CATALOGUE:
        raise InputError(f"Unknown engine {name!r}{nearest(name, CATALOGUE)}; known: {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def backends() -> tuple[str, ...]:
    """Names of the backends, each also the name of its first engine or of none."""
    return tuple(dict.fromkeys(engine.backend for engine in CATALOGUE.values()))


def precisions() -> tuple[Precision, ...]:
    """What --precision takes: of any engine, in the order of their definition."""
    having = {engine.precision for engine in CATALOGUE.values()}
    return tuple(precision for precision in get_args(Precision) if precision in having)


def pick_engine(backend: str, precision: str) -> Engine:
    """The first of a backend's engines in a precision. Raises InputError where it has none, with those that have."""
    for engine in CATALOGUE.values():
        if (engine.backend, engine.precision) == (backend, precision):
            return engine
    having = list(dict.fromkeys(engine.backend for engine in CATALOGUE.values() if engine.precision == precision))
    known = [engine.precision for engine in CATALOGUE.values() if engine.backend == backend]
    raise InputError(
        f"{backend} has no {precision}; take --engine {' or '.join(having) or 'auto'}, or --precision "
        f"{' or '.join(dict.fromkeys(known)) or 'of another engine'}."
    )


def choose_engine(asked: str, precision: str | None = None, device: str = "", *, runs: str = "") -> str:
    """From `--engine`, `--precision` and `--device` to a name of the catalogue, without importing a runtime.

    `asked`: "auto" (AUTO), an engine, or a backend, whose first engine of the precision is taken. Whether a named one
    can run here shows when it is opened: only "auto" may look around, among those that run `runs`. Raises InputError
    for what does not go together.
    """
    gpu = parse_device(device)
    if asked == "auto":
        kinds = {"": ("cpu", "cuda"), "cpu": ("cpu",)}.get(device, ("cuda",))
        fitting = [find_engine(name) for name in AUTO if precision in (None, CATALOGUE[name].precision)]
        fitting = [engine for engine in fitting if runs in ("", engine.runs)]
        found = next((engine for engine in fitting if engine.device in kinds and _runs_here(engine, gpu or 0)), None)
        if found is None:
            names = ", ".join(engine.name for engine in fitting) or "none"
            raise InputError(
                f"No engine in {precision or 'any precision'} runs on {device or 'this machine'} (they are: {names}); "
                "take another --precision or --device, or install one: `unblur doctor` says how."
            )
        return found.name
    named = CATALOGUE.get(asked)
    if named is not None and precision in (None, named.precision):
        engine = named
    elif asked in backends():
        engine = pick_engine(asked, precision or "fp32")
    else:
        engine = find_engine(asked)
        raise InputError(
            f"{asked} has no {precision}, it is {engine.precision}; leave out --precision, or take --engine "
            f"{engine.backend} with it."
        )
    demand_device(engine, device)
    return engine.name


def demand_device(engine: Engine, device: str) -> int:
    """The number of the GPU that `--device` names, 0 where it names none. Raises InputError where the engine does not
    run on such a device.
    """
    gpu = parse_device(device)
    if device and (gpu is None) != (engine.device == "cpu"):
        where = "the CPU" if engine.device == "cpu" else "an NVIDIA GPU"
        raise InputError(f"{engine.name} runs on {where}, not on {device}; leave out --device, or take another engine.")
    return gpu or 0


def parse_device(text: str) -> int | None:
    """ "cuda:1" -> 1, "cuda" -> 0, "cpu" and "" -> None. Raises InputError for anything else."""
    kind, colon, number = text.partition(":")
    if text in ("", "cpu"):
        return None
    if kind != "cuda" or (colon and not (number.isascii() and number.isdigit() and int(number) < 1024)):
        raise InputError(f"Unknown device {text!r}; it is cpu, cuda, or cuda:1 for the second GPU.")
    return int(number or 0)


def devices() -> tuple[product.Device, ...]:
    """The GPUs here; none where no driver answers."""
    try:
        return product.probe_driver().devices
    except MissingRuntimeError:
        return ()


def _runs_here(engine: Engine, gpu: int) -> bool:
    if importlib.util.find_spec(engine.module) is None:
        return False
    if engine.device == "cpu":
        return True
    here = devices()
    return gpu < len(here) and engine.supports(here[gpu])


def open_engine(
    name: str, checkpoint: Weights | None, file: Path | None, threads: int | None = None, output: str | None = None,
    *, device: str = "", contract: PixelContract | None = None, hang_s: float | None = None,
) -> Runner:  # fmt: skip
    """Open an engine of the catalogue: in this process, or (`hang_s`) in one of its own, where no call may take longer.

    `file`: the exported ONNX file or the compiled engine file of the same checkpoint, for engines that run one; torch
    engines ignore it. `checkpoint`: None for a file that is held against another graph and no checkpoint. `threads`:
    None for `default_threads`; engines on a GPU take one. `output`: which of a graph's outputs is the restored frame,
    where it has several, and `contract` its pixels, where it does not say them. `device`: "cuda:1" for another GPU than
    the first. A graph that is not said to be of this
    checkpoint is first tried in a process of its own (`rehearse`). Raises InputError for an unknown name, a file that
    is missing, foreign, damaged or of another checkpoint, or fewer than one thread; MissingRuntimeError when the
    package, the CPU's instructions, the driver or the GPU are missing; BudgetError when the backend took another
    precision; CrashError where its own process does not live through it.
    """
    engine = find_engine(name)
    gpu = demand_device(engine, device)
    if threads is None:
        threads = default_threads()
    if not 1 <= threads <= THREADS_MAX:
        raise InputError(f"{name}: {threads} threads; ask for 1 to {THREADS_MAX}.")
    if engine.runs == "checkpoint":
        return _open(engine, Opening(name, checkpoint, None, threads, gpu), hang_s)
    if file is None:
        kind, how = ("exported graph", "export") if engine.runs == "graph" else ("engine file", "build")
        raise InputError(f"{name} runs an {kind} and none was given; make one with `unblur {how}`.")
    from unblur.engines.rehearsal import rehearse
    from unblur.engines.tensorrt.file import read_engine
    from unblur.graphs.file import GraphFile, read_graph

    opened = read_graph(file, output, contract) if engine.runs == "graph" else read_engine(file)
    if checkpoint is not None and opened.checkpoint not in (None, checkpoint.digest):
        raise InputError(
            f"{file} was made from another checkpoint ({opened.checkpoint[:12]}...) than {checkpoint.path} "
            f"({checkpoint.digest[:12]}...); make it again, or give the checkpoint it came from."
        )
    if checkpoint is not None and opened.channel_order not in (None, checkpoint.contract.channel_order):
        raise InputError(
            f"{file} is for weights that were trained on {opened.channel_order}, but {checkpoint.path} is taken as "
            f"trained on {checkpoint.contract.channel_order}; give the right --channel-order, or make the file again."
        )
    if isinstance(opened, GraphFile) and (checkpoint is None or opened.checkpoint is None):
        rehearse(name, opened, threads, gpu=gpu)
    return _open(engine, Opening(name, checkpoint, opened, threads, gpu), hang_s)


def _open(engine: Engine, opening: Opening, hang_s: float | None) -> Runner:
    if not hang_s:
        return engine.open(opening)
    from unblur.engines.own_process import open_in_own_process

    if engine.runs != "checkpoint":  # the checks are done, and the new process need not load the weights
        opening = replace(opening, weights=None)
    return open_in_own_process(engine, engine.name in _OWN, opening, hang_s)


def is_calibrated(text: str) -> bool:
    """Whether an engine is calibrated here: one of the catalogue in 8 bits, and no file."""
    return text in CATALOGUE and CATALOGUE[text].calibrated
