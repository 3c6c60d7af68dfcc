"""Where OpenVINO's milliseconds go, layer by layer; writes openvino-layers.json beside this file.

    python docs/lab/openvino_layers.py FLOAT.onnx INT8.onnx [ROUNDS]

Graphs of one size, as `unblur export --size 256x256` and `unblur calibrate --form openvino` write them. Layers are
those of the execution model, after fusion, with the mean of their performance counters over ROUNDS frames. "plain":
constants as OpenVINO takes them (free_constants).
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from unblur.core.artefacts import write_json
from unblur.core.provenance import cpu_features, machine, package_versions
from unblur.engines.openvino_runner import free_constants
from unblur.graphs.file import read_graph

THREADS, WARM_UP = 2, 3
COLUMNS = (
    ("openvino", False, "f32", False),
    ("openvino-bf16, plain", False, "bf16", False),
    ("openvino-bf16", False, "bf16", True),
    ("openvino-int8", True, "f32", False),
    ("openvino-int8-bf16, plain", True, "bf16", False),
    ("openvino-int8-bf16", True, "bf16", True),
)
"""What a column is called, whether its graph is in 8 bits, OpenVINO's hint, and whether constants are freed."""

KINDS = {
    "Subgraph": "gates, residuals, quantisers", "Eltwise": "gates, residuals, quantisers",
    "Add": "gates, residuals, quantisers", "LeakyRelu": "gates, residuals, quantisers",
    "Sigmoid": "gates, residuals, quantisers", "Reorder": "changes of layout or type",
    "Transpose": "changes of layout or type", "Convert": "changes of layout or type",
    "MatMul": "products of strip pooling", "Concat": "concatenations", "Gather": "strips: gathers and splits",
    "VariadicSplit": "strips: gathers and splits", "ConvolutionBackpropData": "deconvolution",
}  # fmt: skip


def kind_of(layer: dict[str, Any]) -> str:
    if layer["type"] == "Convolution":
        return "convolutions in 8 bits" if layer["kernel"].endswith("_I8") else "convolutions in floating point"
    return KINDS.get(layer["type"], "other")


def profile(graph: Path, size: tuple[int, int], hint: str, freed: bool, rounds: int) -> dict[str, Any]:
    """The frame's mean time, and every layer that took any."""
    core = openvino.Core()
    model = core.read_model(graph)
    if freed:
        free_constants(model)
    settings = {
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": hint, "PERF_COUNT": True,
    }  # fmt: skip
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    tensor = np.random.default_rng(0).random((1, 3, *size), np.float32) - 0.5
    for _ in range(WARM_UP):
        request.infer([tensor])
    cold = {info.node_name: info.real_time.total_seconds() for info in request.get_profiling_info()}
    began = time.perf_counter()
    for _ in range(rounds):
        request.infer([tensor])
    frame_ms = 1e3 * (time.perf_counter() - began) / rounds
    layers = []
    for info in request.get_profiling_info():
        # A counter is the mean of all runs since the graph was compiled.
        total = info.real_time.total_seconds() * (WARM_UP + rounds) - cold[info.node_name] * WARM_UP
        if total > 0:
            layers.append({"name": info.node_name, "type": info.node_type, "kernel": info.exec_type,
                           "ms": 1e3 * total / rounds})  # fmt: skip
    return {"frame_ms": round(frame_ms, 2), "layers": layers}


def main(floats: Path, eight_bits: Path, rounds: int) -> None:
    signature = read_graph(floats).signature
    if signature.height is None or signature.width is None:
        raise SystemExit(f"{floats} takes every size; export one for a size.")
    size = (signature.height, signature.width)
    columns = []
    for title, in_8_bits, hint, freed in COLUMNS:
        found = profile(eight_bits if in_8_bits else floats, size, hint, freed, rounds)
        groups: dict[str, dict[str, float]] = defaultdict(lambda: {"layers": 0, "ms": 0.0})
        for layer in found["layers"]:
            group = groups[kind_of(layer)]
            group["layers"] += 1
            group["ms"] += layer["ms"]
        slowest = sorted(found["layers"], key=lambda layer: -layer["ms"])[:10]
        columns.append({
            "engine": title,
            "frame_ms": found["frame_ms"],
            "groups": {kind: {"layers": int(g["layers"]), "ms": round(g["ms"], 2)} for kind, g in groups.items()},
            "slowest": [layer | {"ms": round(layer["ms"], 3)} for layer in slowest],
        })  # fmt: skip
        print(json.dumps({"engine": title, "frame_ms": found["frame_ms"]}), flush=True)
    write_json(
        Path(__file__).parent / "openvino-layers.json",
        {"network": floats.stem.partition("-")[0], "size": list(size), "threads": THREADS, "rounds": rounds,
         "graphs": {path.name: read_graph(path).digest for path in (floats, eight_bits)},
         "machine": machine(), "instructions": cpu_features(), "versions": package_versions(), "columns": columns},
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 30)
