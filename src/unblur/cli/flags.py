"""The one table of flags: each is a key of pipeline.toml by another name.

Options, their choices and help, what `--set` lists and what a door says it took come from here and from the sections
of `unblur.pipeline.config`. What is no key (`--output`, `--rebuild`) is an argument of its door.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unblur.cli.door import Arguments, finite, positive, threads
from unblur.cli.sizes import SIZE_TEXT, size
from unblur.core.console import Progress, printable
from unblur.core.errors import InputError
from unblur.images.contract import CONTRACTS, PIXELS

if TYPE_CHECKING:
    from unblur.pipeline.resolve import Resolved

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8", "best")


@dataclass(frozen=True)
class Row:
    """A flag, the key that it sets, who takes it and what help says.

    `value`: what a flag without an argument means. `read`: the argument -> the key's value. `clears`: keys whose value
    in the file belongs to another value of this one. `wins`: over a flag of the same key above it.
    """

    flag: str
    key: str
    verbs: str
    help: str
    type: Callable[[str], Any] = str
    value: Any = None
    read: Callable[[Any], Any] = lambda given: given
    clears: tuple[str, ...] = ()
    choices: tuple[Any, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    wins: bool = False


def _path(path: Path) -> str:
    """What the working directory means, whatever the file's folder is. "gopro:FOLDER" keeps its layout."""
    layout, colon, folder = str(path).partition(":")
    if colon and layout in ("gopro", "hide", "realblur", "realblur-j", "realblur-r"):
        return f"{layout}:{Path(folder).absolute()}"
    return str(path.absolute())


def _hxw(given: tuple[int, int]) -> list[str]:
    return [f"{given[0]}x{given[1]}"]


def _words(given: list[str]) -> list[str]:
    """Files as the working directory has them; other words as they are."""
    return [str(Path(word).absolute()) if Path(word).is_file() else word for word in given]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _bits(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--levels {text}: write bits separated by commas, as 8,16,32.") from error


NETWORK = "export build calibrate compare search speed"
FILE = {"metavar": "FILE"}
DB = {"metavar": "DB"}
TABLE = (
    Row("--checkpoint", "network.checkpoint", NETWORK, ".pth, .pt or .safetensors file of weights", Path, read=_path,
        clears=("network.channel_order",), options=FILE),
    Row("--onnx", "network.checkpoint", "calibrate search", "a float32 graph in the place of a checkpoint", Path,
        read=_path, clears=("network.channel_order",), options=FILE),
    Row("--contract", "network.contract", "calibrate search", "pixels of a graph that does not say them: "
        f"{', '.join(CONTRACTS)}; rgb01/8: for sizes in multiples of 8", options={"metavar": "NAME"}),
    Row("--output-name", "network.output_name", "calibrate search", "of a graph: the restored frame among several "
        "outputs", options={"metavar": "NAME"}),
    Row("--channel-order", "network.channel_order", NETWORK,
        "that the weights were trained with, which nothing in them tells; left out, as the papers' weights",
        choices=("bgr", "rgb")),
    Row("--size", "graph.sizes", "export build calibrate search speed", f"of the frames, in pixels: {SIZE_TEXT}",
        size, read=_hxw, clears=("graph.dynamic",), options={"metavar": "HxW"}),
    Row("--height", "graph.height", "export build calibrate", "with --width: --size by another name", positive,
        clears=("graph.sizes", "graph.dynamic")),
    Row("--width", "graph.width", "export build calibrate", "with --height: --size by another name", positive,
        clears=("graph.sizes", "graph.dynamic")),
    Row("--dynamic", "graph.dynamic", "export build", "one graph for every size", value=True),
    Row("--pixels", "graph.pixels", "export build calibrate", "float: NCHW as the network takes it, such as BGR in "
        "[-0.5, 0.5]; rgb01: NCHW RGB in [0, 1]; uint8: NHWC RGB bytes; arithmetic inside", choices=PIXELS),
    Row("--opset", "graph.opset", "export", "ONNX opset", int, choices=(19, 20, 21)),
    Row("--prove", "graph.prove", "export",
        "also sweep sizes, rounding traps included, in every backend that is installed", value=True),
    *(Row(f"--{name}", "build.precisions", "build", f"--precision {name}", value=[name]) for name in PRECISIONS[1:-1]),
    Row("--precision", "build.precisions", "build", "rewrite the graph to it, hold the engine to it; best: all that "
        "the targets run, and the fastest", choices=PRECISIONS, read=lambda one: [one]),
    Row("--flavor", "build.flavor", "build", "the product; auto: TensorRT where it can be imported, else for RTX",
        choices=("auto", "tensorrt", "tensorrt-rtx")),
    Row("--target", "build.targets", "build", "GPUs or their families, such as \"RTX 4090\" or sm89,sm120, or "
        "current; none: portable, Ampere and later (TensorRT: the GPU at hand)", read=lambda text: [text]),
    Row("--shapes", "build.shapes", "build", "sizes of a dynamic graph, such as 64x64:256x256:720x1280 or 720x1280",
        options={"nargs": "+", "action": "extend", "metavar": "MIN:OPT:MAX"}),
    Row("--optimization-level", "build.optimization_level", "build", "how long to search for fast kernels", int,
        options={"metavar": "0-5"}),
    Row("--builds", "build.builds", "build", "build so many times, keep the least bytes moved", positive),
    Row("--frames", "frames.blurred", "build", "pictures to measure on what a precision costs; left out, drawn ones",
        Path, read=_path, clears=("frames.sharp",), options={"metavar": "DIR"}),
    Row("--truth", "frames.sharp", "build", "folder of their sharp partners: same relative path and stem", Path,
        read=_path, options={"metavar": "DIR"}),
    Row("--fidelity-db", "build.fidelity_db", "build", "to keep on the worst frame: left out, fp16 60, bf16 45, int8 "
        "and fp8 40", finite, options=DB),
    Row("--psnr-loss-db", "build.psnr_loss_db", "build", "8 bits: what may be lost of PSNR", finite, options=DB),
    Row("--frames", "frames.blurred", "calibrate compare search", "folder of blurred pictures, one picture, or the "
        "test part of a data set with its truth: gopro:FOLDER, hide:FOLDER, realblur-j:FOLDER; left out, drawn pairs",
        Path, read=_path, clears=("frames.sharp",)),
    Row("--truth", "frames.sharp", "calibrate compare search",
        "folder of their sharp partners: same relative path and stem", Path, read=_path),
    Row("--drawn", "frames.generated", "calibrate compare search", "so many drawn pairs instead of --frames",
        positive, clears=("frames.blurred", "frames.sharp"), options={"metavar": "N"}),
    Row("--manifest", "calibration.manifest", "build calibrate compare search speed", "calibration frames of 8 bits",
        Path, read=_path, options=FILE),
    Row("--form", "calibration.form", "calibrate", "how 8 bits are written: for which runtime",
        choices=("openvino", "onnxruntime", "tensorrt", "tensorrt-rtx", "fp8")),
    Row("--algorithm", "calibration.algorithm", "build calibrate",
        "of the ranges: minmax, moving-average, percentile, entropy, mse, or best: a bake-off",
        options={"metavar": "NAME"}),
    Row("--bake-off", "calibration.algorithm", "calibrate", "score every algorithm and take the best", value="best"),
    Row("--repair", "calibration.repairs", "build calibrate",
        "default (the form's own), equalisation, adaptive-rounding, bias-correction; nothing behind it: none",
        options={"nargs": "*", "metavar": "NAME"}),
    Row("--keep", "calibration.keep", "build calibrate", "what stays in floating point in the place of the default: "
        "none; a file of names (keep.txt of a search); names or patterns of nodes, layers, blocks, as \"encoder.*\"; "
        "with \"default\" among them besides it", read=_words,
        options={"nargs": "+", "metavar": "none|FILE|PATTERN"}),
    Row("--fidelity-db", "calibration.fidelity_db", "calibrate", "that the worst frame must keep", finite, options=DB),
    Row("--psnr-loss-db", "calibration.psnr_loss_db", "calibrate", "mean PSNR that may be lost against truth", finite,
        options=DB),
    Row("--engines", "compare.engines", "compare", "engines separated by commas: names, files (FILE.onnx, "
        "FILE.engine), or NAME:FILE", read=_names),
    Row("--threads", "compare.threads", "calibrate compare search speed",
        "CPU threads of each engine; left out, physical cores", threads),
    Row("--device", "compare.device", "compare", "of engines on a GPU: cuda, or cuda:1 for the second GPU"),
    Row("--rounds", "compare.rounds", "compare", "timed rounds", positive),
    Row("--repeats", "compare.repeats", "compare", "short sessions of latency, every engine opened anew for each: 8 "
        "tell an engine that is a tenth slower than its baseline", positive),
    Row("--baseline", "compare.baseline", "compare", "an accepted report (unblur accept): exit code 3 where decibels "
        "or milliseconds have been lost since", Path, read=_path, options=FILE),
    Row("--cost", "compare.cost", "compare", "also memory, loading time and first frame of each engine, in a "
        "process of its own, and its share of what the machine gives", value=True),
    Row("--no-latency", "compare.rounds", "compare", "measure fidelity and quality only", value=0, wins=True),
    Row("--no-waterfall", "compare.waterfall", "compare", "leave out where engines lose their decibels", value=False),
    Row("--engine", "search.engine", "search", "what shall run it; tensorrt-rtx needs no GPU here",
        choices=("openvino", "onnxruntime", "tensorrt-rtx")),
    Row("--objective", "search.objective", "search", "what shall be small: measured time (tensorrt-rtx: the roofline's "
        "lower bound), bytes moved (tensorrt-rtx), or multiply-accumulates by their bits",
        choices=("latency", "bytes", "macs")),
    Row("--budget-db", "search.psnr_loss_db", "search", "PSNR against truth that may be lost, on average over the "
        "frames", finite, options=DB),
    Row("--fidelity-db", "search.fidelity_db", "search", "mean fidelity to float32 to keep; alone, it takes the place "
        "of --budget-db", finite, options=DB),
    Row("--worst-db", "search.worst_db", "search", "fidelity to float32 to keep on the worst frame; without "
        "--budget-db it takes its place", finite, options=DB),
    Row("--form", "search.form", "search", "how 8 bits are written; left out, the engine's own; fp8 for tensorrt-rtx"),
    Row("--levels", "search.levels", "search", "that a group may have, as 8,16,32; left out, 8,32 on a CPU, 8,16 with "
        "tensorrt-rtx", read=_bits, options={"metavar": "BITS"}),
    Row("--gpu", "search.gpu", "search", "of tensorrt-rtx: whose roofline"),
    Row("--algorithm", "search.algorithm", "search", "of the ranges, or best: that of a bake-off"),
    Row("--engines", "speed.engines", "speed", "names separated by commas; torch is always among them", read=_names),
    Row("--device", "speed.device", "speed", "of engines on a GPU: cuda, or cuda:1 for the second GPU"),
    Row("--rounds", "speed.rounds", "speed", "timed rounds", positive),
)  # fmt: skip


def rows_of(verb: str) -> tuple[Row, ...]:
    """The rows of a verb; of "run", which has no flags of its own, none."""
    return tuple(row for row in TABLE if verb in row.verbs.split())


def keys_of(verb: str) -> tuple[str, ...]:
    """The keys that a verb's flags set, each once."""
    return tuple(dict.fromkeys(row.key for row in rows_of(verb)))


def add_flags(parser: Arguments, verb: str) -> None:
    """Add --config, --set and the verb's rows of the table."""
    text = "the configuration; left out, the nearest pipeline.toml upwards, else the project's own"
    parser.add_argument("--config", type=Path, metavar="FILE", help=text)
    keys = ", ".join(keys_of(verb)) or "such as graph.sizes=720x1280"
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="assignments",
                        help=f"set a key of the configuration; may be repeated. Flags here set {keys}")  # fmt: skip
    for row in rows_of(verb):
        text = f"{row.help} [{row.key}]"
        if row.value is not None:
            parser.add_argument(row.flag, action="store_true", help=text)
        else:
            parser.add_argument(row.flag, type=row.type, choices=row.choices, help=text, **row.options)


def resolve(arguments: argparse.Namespace, verb: str) -> Resolved:
    """The configuration in force under what was typed. Raises InputError for flags that exclude each other, and as
    `resolve_config`."""
    from unblur.pipeline.resolve import Flag, resolve_config

    given = [row for row in rows_of(verb) if _is_given(row, arguments)]
    _refuse_conflicts(given, arguments)
    flags = [Flag(row.flag, row.key, _value(row, arguments), row.clears) for row in given]
    return resolve_config(arguments.config, arguments.assignments, flags)


def tell_taken(
    resolved: Resolved, verb: str, progress: Progress, *more: str, used: Callable[[str], bool] = lambda _: True
) -> None:
    """One line for each key that a verb depends on, or those `used`: key, value, and where the value is from."""
    keys = [*keys_of(verb), *more, "paths.artifacts"]
    for key in dict.fromkeys(keys):
        if key in ("graph.height", "graph.width") or not used(key):
            continue
        progress.note(f"{key:<24} {printable(_text(resolved.value(key)))}  ({resolved.origin(key)})")


def _text(value: Any) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, tuple):
        return ", ".join("x".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _dest(row: Row) -> str:
    return row.flag.removeprefix("--").replace("-", "_")


def _is_given(row: Row, arguments: argparse.Namespace) -> bool:
    typed = getattr(arguments, _dest(row))
    return typed is not None and typed is not False


def _value(row: Row, arguments: argparse.Namespace) -> Any:
    return row.read(getattr(arguments, _dest(row))) if row.value is None else row.value


def _refuse_conflicts(given: Iterable[Row], arguments: argparse.Namespace) -> None:
    by_key: dict[str, list[Row]] = {}
    for row in given:
        if not row.wins:
            by_key.setdefault(row.key, []).append(row)
    for rows in by_key.values():
        if len({str(_value(row, arguments)) for row in rows}) > 1:
            typed = [r.flag if r.value is not None else f"{r.flag} {getattr(arguments, _dest(r))}" for r in rows]
            raise InputError(f"{' and '.join(typed)} exclude each other; give one.")
    named = {row.flag for row in given}
    if ("--height" in named) != ("--width" in named):
        raise InputError("--height and --width go together; or write --size HEIGHTxWIDTH.")
    if "--size" in named and "--height" in named:
        raise InputError("--size and --height with --width are two spellings of one thing; give one.")
    if "--dynamic" in named and named & {"--size", "--height"}:
        raise InputError("A dynamic graph takes every size; leave out --size, --height and --width, or --dynamic.")
    if "--truth" in named and "--frames" not in named:
        raise InputError("--truth goes with --frames: the folder of the blurred pictures.")
    if {"--drawn", "--frames"} <= named:
        raise InputError("--drawn and --frames exclude each other; name pictures, or draw pairs.")
