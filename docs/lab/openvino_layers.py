"""Where OpenVINO's milliseconds go, layer by layer; writes openvino-layers.json beside this file.

    python docs/lab/openvino_layers.py FOLDER [ROUNDS]

BANet-18M with random weights at 256x256, two threads. FOLDER keeps what is made once (graph, ranges). Layers are those
of the execution model, after fusion, with the median of their performance counters; the counters themselves cost next
to nothing: their sum is the frame's time within 5 %. "plain" leaves constants as OpenVINO takes them (free_constants).
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import openvino

from unblur.core.artefacts import write_json
from unblur.core.provenance import cpu_features, machine, package_versions
from unblur.engines.openvino_runner import free_constants
from unblur.networks.random_weights import random_checkpoint
from unblur.pipeline.opening import engine_graph
from unblur.pipeline.store import Store

SIZE, THREADS, SEED, WARM_UP = (256, 256), 2, 0, 3
ENGINES = (
    ("openvino", "openvino", "f32", False),
    ("openvino-bf16, plain", "openvino-bf16", "bf16", False),
    ("openvino-bf16", "openvino-bf16", "bf16", True),
    ("openvino-int8", "openvino-int8", "f32", False),
    ("openvino-int8-bf16, plain", "openvino-int8-bf16", "bf16", False),
    ("openvino-int8-bf16", "openvino-int8-bf16", "bf16", True),
)
"""What a column is called, its engine, OpenVINO's hint, and whether constants are freed."""

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


def profile(graph: Path, hint: str, freed: bool, rounds: int) -> dict[str, Any]:
    """The frame's median time and every layer that took any."""
    core = openvino.Core()
    model = core.read_model(graph)
    if freed:
        free_constants(model)
    settings = {
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": hint, "PERF_COUNT": True,
    }  # fmt: skip
    compiled = core.compile_model(model, "CPU", settings)
    told = {op.friendly_name: op for op in compiled.get_runtime_model().get_ordered_ops()}
    request = compiled.create_infer_request()
    tensor = np.random.default_rng(0).random((1, 3, *SIZE), np.float32) - 0.5
    frames, counters = [], defaultdict(list)
    for number in range(WARM_UP + rounds):
        began = time.perf_counter()
        request.infer([tensor])
        if number >= WARM_UP:
            frames.append(1e3 * (time.perf_counter() - began))
            for info in request.get_profiling_info():
                counters[info.node_name, info.node_type, info.exec_type].append(1e3 * info.real_time.total_seconds())
    layers = []
    for (name, kind, kernel), samples in counters.items():
        if median(samples) > 0:
            about = told[name].get_rt_info() if name in told else {}
            layouts = str(about["outputLayouts"].astype(str)) if "outputLayouts" in about else ""
            layers.append({"name": name, "type": kind, "kernel": kernel, "layout": layouts, "ms": median(samples)})
    return {"frame_ms": round(median(frames), 2), "layers": layers}


def main(folder: Path, rounds: int) -> None:
    store = Store(folder / "store")
    checkpoint = random_checkpoint("banet", SEED, folder)
    columns = []
    for title, name, hint, freed in ENGINES:
        graph = engine_graph(name, store, checkpoint, SIZE, threads=THREADS).path
        found = profile(graph, hint, freed, rounds)
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
        {"network": checkpoint.name, "size": list(SIZE), "threads": THREADS, "rounds": rounds,
         "machine": machine(), "instructions": cpu_features(), "versions": package_versions(), "columns": columns},
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15)
