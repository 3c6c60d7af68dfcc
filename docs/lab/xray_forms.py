"""What TensorRT for RTX makes of BANet-18M in FP16, INT8 and FP8; writes 8-bit-xray.json beside this file. No GPU.

    python docs/lab/xray_forms.py

Weights are random and ranges come from two synthetic frames through them: kernels and bytes depend on neither.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from unblur.core.artefacts import write_json
from unblur.core.provenance import package_versions
from unblur.engines.tensorrt.builder import compile_engine
from unblur.engines.xray.audit import realised_precision
from unblur.engines.xray.gpus import gpus_of
from unblur.engines.xray.kernel_kinds import kind_of
from unblur.engines.xray.roofline import NOTE, can_run, roofline
from unblur.export.graph import export_graph
from unblur.graphs.facts import read_facts
from unblur.graphs.rewrites.casting import cast_graph
from unblur.graphs.rewrites.forms import FP8, TENSORRT, TENSORRT_RTX, Form
from unblur.graphs.rewrites.quantise import quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph
from unblur.images.synthetic import synthetic_pair
from unblur.networks.random_weights import random_checkpoint

SIDE = 256
TARGETS = ("sm86", "sm89", "sm120")
FORMS: dict[str, Form | None] = {
    "fp16": None,
    "int8, a scale a channel behind (tensorrt-rtx)": TENSORRT_RTX,
    "the same, residual and concatenations too": replace(TENSORRT_RTX, residual=True, shared_concat=True),
    "int8, a scale a channel (tensorrt)": TENSORRT,
    "fp8, one scale a weight (fp8)": FP8,
}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="unblur-") as folder:
        checkpoint = random_checkpoint("banet", 0, Path(folder))
        path = Path(folder) / "banet.onnx"
        export_graph(checkpoint, path, height=SIDE, width=SIDE)
        model = onnx.load(path)
        frames = [checkpoint.contract.encode(synthetic_pair(seed, SIDE, SIDE, "train")[0]) for seed in range(2)]
    rows = []
    for name, form in FORMS.items():
        share, source = 0.0, model
        if form is not None:
            graph = WrittenGraph(model, tensors_to_measure(model, form))
            runs = [graph.run(x) for x in frames]
            ends = {n: (min(r[n].min() for r in runs), max(r[n].max() for r in runs)) for n in runs[0]}
            ranges = Ranges("min-max", {n: Range(float(a), float(b)) for n, (a, b) in ends.items()})
            quantised = quantise(model, ranges, form)
            share, source = quantised.macs_share, quantised.model
        cast = cast_graph(source, "fp16").model
        for target in TARGETS:
            if form is FP8 and target == "sm86":
                continue  # no FP8 before SM 8.9
            rows.append(_row(name, share, cast, target))
            print(json.dumps(rows[-1]), flush=True)
    write_json(
        HERE / "8-bit-xray.json",
        {"network": "banet, random weights", "side_px": SIDE, "roofline": NOTE, "versions": package_versions(),
         "rows": rows},
    )  # fmt: skip


def _row(name: str, share: float, model: onnx.ModelProto, target: str) -> dict[str, Any]:
    xray = compile_engine(model.SerializeToString(), [target]).xrays[target]
    facts = read_facts(model, SIDE, SIDE)
    moved: Counter[str] = Counter()
    for kernel in xray.kernels:
        moved[kind_of(kernel, facts)] += kernel.bytes_moved
    realised = realised_precision(xray, [convolution.name for convolution in facts.convolutions])
    writes = Counter(t.type for kernel in xray.kernels if kernel.is_convolution for t in kernel.outputs)
    return {
        "form": name,
        "target": target,
        "macs_share_8_bits_asked": round(share, 4),
        "convolutions_run_in": dict(Counter(realised.values())),
        "convolutions_write": dict(writes),
        "kernels": len(xray.kernels),
        "gb_moved": round(sum(moved.values()) / 1e9, 3),
        "gb_by_kind": {kind: round(count / 1e9, 3) for kind, count in moved.most_common()},
        "lower_bound_ms": {
            gpu.name: round(roofline(xray.kernels, gpu).ms, 3) for gpu in gpus_of(target) if can_run(xray.kernels, gpu)
        },
    }


HERE = Path(__file__).parent

if __name__ == "__main__":
    main()
