"""`unblur <verb>`: the same doors as the scripts in the top-level folders."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from unblur import __version__
from unblur.cli.door import door
from unblur.core.errors import InputError, nearest

VERBS = {
    "init": ("init", "a commented pipeline.toml for a checkpoint"),
    "run": ("run_pipeline", "the whole way of pipeline.toml: export, engines, comparison"),
    "export": ("to_onnx", "checkpoint -> exact ONNX graph"),
    "build": ("build_engine", "ONNX graph -> TensorRT engine: FP32, FP16, BF16, INT8, FP8, or the best"),
    "xray": ("show_engine", "kernels, bytes, precision and a lower bound of an engine, without a GPU"),
    "reproduce": ("reproduce_engine", "scripts and a C++ program that time an engine with other tools"),
    "collect": ("collect_frames", "pictures -> calibration frames, pinned in a manifest"),
    "calibrate": ("calibrate_network", "calibration frames -> graph in 8 bits, and what it costs in decibels"),
    "search": ("search_precision", "which convolutions 8 bits suit, within a budget of decibels"),
    "deblur": ("deblur_images", "pictures in, deblurred pictures out"),
    "compare": ("compare_engines", "fidelity, quality and latency of engines, as a report"),
    "accept": ("accept_report", "a report becomes the baseline that later comparisons are held against"),
    "merge": ("merge_reports", "reports of several machines side by side"),
    "blame": ("blame_engine", "the first tensor, layer and channel where two graphs or engines part"),
    "speed": ("measure_speed", "engines against PyTorch's own best, on one size of a network"),
    "networks": ("list_networks", "the networks that are known: paper, parameters, sizes"),
    "inspect": ("inspect_checkpoint", "what a checkpoint is, what it takes, and what else its file holds"),
    "doctor": ("doctor", "what is installed, what runs here, what would bring the rest"),
    "train": ("train_network", "train a network on pairs or on the built-in synthetic source"),
}


def _usage() -> str:
    lines = "\n".join(f"  {verb:<11}{text}" for verb, (_, text) in VERBS.items())
    return (
        f"usage: unblur VERB [options]\n\n{lines}\n\n`unblur help VERB` lists a verb's options, with examples; "
        "`unblur --version` tells the version."
    )


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch to the verb's door. Only that door is imported: --help needs no runtime."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"unblur {__version__}")
        return 0
    verb, *rest = arguments
    if verb == "help":
        return main([*rest[:1], "--help"])
    if verb not in VERBS:
        raise InputError(f"Unknown verb {verb!r}{nearest(verb, VERBS)}\n{_usage()}")
    module = importlib.import_module(f"unblur.cli.{VERBS[verb][0]}")
    code: int = module.main(rest)
    return code
