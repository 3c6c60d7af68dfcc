"""Peak memory of measuring calibration ranges: `python docs/lab/measure_calibration_memory.py banet 720 1280 1 FOLDER`.

Network with random weights, height, width, frames (drawn noise: its content costs nothing), a folder for the graph.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import onnx

from unblur.calibration.statistics import measure_statistics
from unblur.graphs.rewrites.forms import FORMS
from unblur.graphs.rewrites.quantise import tensors_to_measure

THREADS = 2


def main(network: str, height: int, width: int, count: int, folder: Path) -> None:
    """Export in another process first, so that its memory is not counted here."""
    graph = folder / f"{network}-dynamic.onnx"
    if not graph.exists():
        from unblur.export.graph import export_graph
        from unblur.networks.random_weights import random_checkpoint

        export_graph(random_checkpoint(network, 0, folder), graph, dynamic=True)
        print(f"{graph} is written; run the same command again to measure.")
        return
    model = onnx.load(graph)
    tensors = sorted({name for form in FORMS.values() for name in tensors_to_measure(model, form, {})})
    del model
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    measure_statistics(graph, tensors, frames, histograms=True, threads=THREADS)
    told = {
        "network": network,
        "frame": [height, width],
        "frames": count,
        "tensors": len(tensors),
        "threads": THREADS,
        "peak_mib_before": round(before),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
