"""What the exact export and TensorRT for RTX make of each network, plain and rewritten; writes networks.json. No GPU.

    python docs/lab/measure_networks.py banet_s4 saphn_a:plain ...      # these rows are measured anew, others stay

At 256x256 with random weights, which neither nodes, kernels nor bytes depend on. "plain" is torch's exporter on the
network as it is written, "rewritten" its exact form through `export_graph`, with the proof it demands. Seconds are of
the processor as well as of the clock: the machine may have been busy.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from unblur.core.artefacts import write_json
from unblur.core.errors import UnblurError
from unblur.core.provenance import package_versions
from unblur.engines.tensorrt.builder import compile_engine
from unblur.engines.xray.gpus import gpus_of
from unblur.engines.xray.roofline import NOTE, can_run, roofline
from unblur.export.graph import export_graph
from unblur.export.trace import trace
from unblur.graphs.rewrites.casting import cast_graph
from unblur.networks.checkpoints import Checkpoint
from unblur.networks.pixel_form import PixelForm
from unblur.networks.random_weights import random_checkpoint
from unblur.networks.registry import preset_names

SIDE, TARGET = 256, "sm89"
RESULTS = Path(__file__).parent / "networks.json"


class Plain(nn.Module):
    """The network itself in the place of its form."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y: Tensor = self.network(x)
        return y, y


def main() -> None:
    rows = json.loads(RESULTS.read_text())["exports"] if RESULTS.exists() else []
    for name, _, only in (asked.partition(":") for asked in sys.argv[1:]):
        with tempfile.TemporaryDirectory(prefix="unblur-") as folder:
            checkpoint = random_checkpoint(name, 0, Path(folder))
            for what in [only] if only else ["plain", "rewritten"]:
                made = {"network": name, "export": what} | row(checkpoint, what, Path(folder))
                rows = [one for one in rows if (one["network"], one["export"]) != (name, what)] + [made]
                order = list(preset_names())
                rows.sort(key=lambda one: (order.index(one["network"]), one["export"]))
                print(json.dumps(made), flush=True)
                head = {"side_px": SIDE, "target": TARGET, "roofline": NOTE, "versions": package_versions()}
                write_json(RESULTS, head | {"exports": rows})


def row(checkpoint: Checkpoint, what: str, folder: Path) -> dict[str, Any]:
    clock, processor = time.perf_counter(), time.process_time()
    if what == "rewritten":
        model = onnx.load(export_graph(checkpoint, folder / "graph.onnx", height=SIDE, width=SIDE).path)
    else:
        form = PixelForm(Plain(checkpoint.network), checkpoint.contract, checkpoint.contract).eval()
        family = checkpoint.recognised.family
        model = trace(form, (SIDE, SIDE), family.contract.multiple, family.exact.smallest, 20, family.part_of)
    took = {
        "nodes": len(model.graph.node),
        "seconds": round(time.perf_counter() - clock, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }
    try:
        kernels = compile_engine(cast_graph(model, "fp16").model.SerializeToString(), [TARGET]).xrays[TARGET].kernels
    except UnblurError as error:
        return took | {"refused": str(error).splitlines()[0]}
    moved = sum(kernel.bytes_moved for kernel in kernels)
    bounds = {gpu.name: round(roofline(kernels, gpu).ms, 3) for gpu in gpus_of(TARGET) if can_run(kernels, gpu)}
    return took | {"kernels": len(kernels), "gb_moved": round(moved / 1e9, 3), "lower_bound_ms": bounds}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
