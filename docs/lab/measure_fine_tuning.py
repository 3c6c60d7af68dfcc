"""What fine-tuning with fake quantisation gains; writes 8-bit-fine-tuning.json beside this file.

    python docs/lab/measure_fine_tuning.py FINE_TUNED.safetensors [GOPRO_FOLDER]

The checkpoint of training/configs/banet-nano-int8.toml against the bundled one: PSNR against truth in float32 and in
8 bits as written (percentile ranges), on the frames of measure_forms.py.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import onnx
from measure_forms import CHECKPOINT, SIDE, Run, panels_of, run_of, statistics_of
from numpy.typing import NDArray

from unblur.calibration.algorithms import check_algorithm
from unblur.calibration.manifest import load_manifest
from unblur.core.artefacts import write_json
from unblur.core.provenance import package_versions
from unblur.export.graph import export_graph
from unblur.graphs.rewrites.forms import OPENVINO, TENSORRT_RTX
from unblur.graphs.rewrites.quantise import quantise
from unblur.images.contract import Frame
from unblur.metrics.quality import psnr_db
from unblur.networks.checkpoints import load_checkpoint
from unblur.pipeline.places import bundled_manifest


def main(tuned: Path, gopro: Path | None) -> None:
    rows = [{"checkpoint": name} | row_of(path, gopro) for name, path in (("bundled", CHECKPOINT), ("tuned", tuned))]
    for row in rows:
        print(json.dumps(row), flush=True)
    write_json(Path(__file__).parent / "8-bit-fine-tuning.json", {"versions": package_versions(), "rows": rows})


def row_of(path: Path, gopro: Path | None) -> dict[str, Any]:
    """PSNR against truth by panel, in float32 and in two forms, and the forms' fidelity to float32."""
    checkpoint = load_checkpoint(path)
    contract = checkpoint.contract
    with tempfile.TemporaryDirectory(prefix="unblur-") as folder:
        graph = Path(folder) / "float.onnx"
        export_graph(checkpoint, graph, height=SIDE, width=SIDE)
        model = onnx.load(graph)
        frames = load_manifest(bundled_manifest(), Path(folder) / "frames")
        statistics = statistics_of(model, frames, Path(folder))
    panels = panels_of(gopro, contract, run_of(model))

    def decode(tensor: NDArray[Any]) -> Frame:
        return contract.decode(tensor, SIDE, SIDE)

    def psnr_against_truth_db(run: Run) -> dict[str, float]:
        return {
            panel.name: round(
                fmean(
                    psnr_db(decode(run(x)), t, peak=255) for x, (_, t) in zip(panel.encoded, panel.pairs, strict=True)
                ),
                4,
            )
            for panel in panels
        }

    row: dict[str, Any] = {"sha256": checkpoint.digest, "psnr_db": {"float32": psnr_against_truth_db(run_of(model))}}
    row["fidelity_db_mean"] = {}
    for form in (OPENVINO, TENSORRT_RTX):
        ranges = check_algorithm("percentile", form).ranges(statistics)
        run = run_of(quantise(model, ranges, form).model)
        row["psnr_db"][form.name] = psnr_against_truth_db(run)
        row["fidelity_db_mean"][form.name] = {p.name: p.score(run, decode)["fidelity_db_mean"] for p in panels}
    return row


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
