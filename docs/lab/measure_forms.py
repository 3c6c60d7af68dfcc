"""What 8 bits cost in each form, on the bundled network; writes 8-bit-forms.json beside this file.

    python docs/lab/measure_forms.py [GOPRO_FOLDER [FORM ...]]

Ranges: over the bundled manifest's drawn frames; scored on the split "heldout" and, where a folder in
GoPro's layout is given, on the middle crops of its test pairs. Two rows a form: "as written" (ONNX Runtime, no
graph optimisation: pairs round, the rest is float32) and as the backend it is for runs it. Where forms are named, only
they are measured, and the rows of the others stay.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import onnx
from numpy.typing import NDArray

from unblur.calibration.algorithms import check_algorithm
from unblur.calibration.manifest import Manifest, load_manifest
from unblur.calibration.realised import Backend, realised_on_cpu
from unblur.calibration.repairs.bias_correction import correct_biases
from unblur.calibration.repairs.equalise import equalise
from unblur.calibration.repairs.rounding import round_adaptively
from unblur.calibration.statistics import TensorStatistics, measure_statistics
from unblur.core.artefacts import write_json
from unblur.core.provenance import package_versions
from unblur.engines.catalogue import open_engine
from unblur.export.graph import export_graph
from unblur.graphs.rewrites.forms import FORMS, S8, Form, find_form
from unblur.graphs.rewrites.keeping import kept_by_default
from unblur.graphs.rewrites.quantise import QuantisedGraph, quantise, tensors_to_measure
from unblur.graphs.sessions import WrittenGraph
from unblur.images.contract import METADATA_KEY, Frame, PixelContract
from unblur.images.pairs import find_pairs, read_pair
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.quality import psnr_db
from unblur.networks.checkpoints import load_checkpoint
from unblur.pipeline.making.eight_bits import ROUNDING_FRAMES
from unblur.pipeline.places import bundled_manifest

HERE = Path(__file__).parent
CHECKPOINT = HERE.parents[1] / "checkpoints" / "banet-nano.safetensors"
SIDE = 256
HELD_OUT = range(100, 108)
Run = Callable[[NDArray[Any]], NDArray[Any]]
BACKENDS: dict[str, Backend] = {"openvino": "openvino", "onnxruntime": "onnxruntime"}


@dataclass(frozen=True)
class Panel:
    """Frames with their truth, and what the float32 graph makes of them."""

    name: str
    pairs: Sequence[tuple[Frame, Frame]]
    encoded: Sequence[NDArray[Any]]
    reference: Sequence[NDArray[Any]]

    def score(self, run: Run, decode: Callable[[NDArray[Any]], Frame]) -> dict[str, float]:
        results = [run(x) for x in self.encoded]
        fidelity = [psnr_db(a, b, peak=1.0) for a, b in zip(results, self.reference, strict=True)]
        quality = [
            [psnr_db(decode(t), truth, peak=255) for t, (_, truth) in zip(tensors, self.pairs, strict=True)]
            for tensors in (self.reference, results)
        ]
        return {
            "fidelity_db_mean": round(fmean(fidelity), 2),
            "fidelity_db_worst": round(min(fidelity), 2),
            "psnr_loss_db": round(fmean(quality[0]) - fmean(quality[1]), 4),
        }


def panels_of(gopro: Path | None, contract: PixelContract, run: Run) -> list[Panel]:
    """Drawn held-out frames, and crops of real ones where a folder of them is given; `run`: the float32 graph."""
    sources = {"heldout": [synthetic_pair(seed, SIDE, SIDE, "heldout") for seed in HELD_OUT]}
    if gopro is not None:
        sources["real"] = [crop for pair in find_pairs(gopro, "gopro", "test") for crop in _crops(*read_pair(pair))]
    panels = []
    for name, pairs in sources.items():
        encoded = [contract.encode(blurred) for blurred, _ in pairs]
        panels.append(Panel(name, pairs, encoded, [run(x) for x in encoded]))
    return panels


def main(gopro: Path | None, names: Sequence[str]) -> None:
    table = HERE / "8-bit-forms.json"
    checkpoint = load_checkpoint(CHECKPOINT)
    contract = checkpoint.contract
    with tempfile.TemporaryDirectory(prefix="unblur-") as folder:
        path = Path(folder) / "float.onnx"
        export_graph(checkpoint, path, height=SIDE, width=SIDE)
        model = onnx.load(path)
        float_run = run_of(model)
        frames = load_manifest(bundled_manifest(), Path(folder) / "frames")
        panels = panels_of(gopro, contract, float_run)

        def scores(run: Run) -> dict[str, Any]:
            return {p.name: p.score(run, lambda t: contract.decode(t, SIDE, SIDE)) for p in panels}

        rows: list[dict[str, Any]] = []
        if names:
            rows = [row for row in json.loads(table.read_text())["rows"] if row["form"] not in names]
        plain = statistics_of(model, frames, Path(folder))
        for form in map(find_form, names or FORMS):
            for repairs, graph in _variants(model, plain, form, frames, Path(folder)):
                row: dict[str, Any] = {
                    "form": form.name,
                    "repairs": repairs,
                    "macs_share_8_bits": round(graph.macs_share, 4),
                    "convolutions_8_bits": len(graph.convolutions),
                    "as_written": scores(run_of(graph.model)),
                }
                backend = BACKENDS.get(form.name)
                if backend is not None:
                    quantised = Path(folder) / "quantised.onnx"
                    onnx.save(graph.model, quantised)
                    row["backend"] = {"macs_share_8_bits": round(realised_on_cpu(graph, backend).macs_share, 4)}

                    with open_engine(backend, checkpoint, quantised, 1) as runner:
                        row["backend"] |= scores(runner.run)
                rows.append(row)
                print(json.dumps(row), flush=True)
    rows.sort(key=lambda row: list(FORMS).index(row["form"]))
    write_json(
        table,
        {
            "checkpoint_sha256": checkpoint.digest,
            "side_px": SIDE,
            "calibration": f"{len(frames)} frames of {bundled_manifest().name}",
            "frames": {p.name: len(p.pairs) for p in panels},
            "cpu_flags": _flags(),
            "versions": package_versions(),
            "rows": rows,
        },
    )


def _variants(
    model: onnx.ModelProto, plain: Mapping[str, TensorStatistics], form: Form, frames: Manifest, folder: Path
) -> list[tuple[str, QuantisedGraph]]:
    """What repairs do, one after another: ranges, then equalised maps, then weights and biases."""
    contract = PixelContract.from_json({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])
    inputs = [contract.encode(frame) for frame in frames]
    equal = equalise(model, inputs, kept_by_default(model, form)).model

    def quantised(source: onnx.ModelProto, algorithm: str, rules: Form = form) -> QuantisedGraph:
        chosen = check_algorithm(algorithm, rules)
        return quantise(source, chosen.ranges(plain if source is model else statistics), rules)

    statistics = statistics_of(equal, frames, folder)
    found = [("min-max", quantised(model, "minmax")), ("min-max, equalised", quantised(equal, "minmax"))]
    found.append(("percentile", quantised(model, "percentile")))
    looked_at = inputs[:ROUNDING_FRAMES]
    found.append(("percentile, rounded", round_adaptively(model, found[-1][1], looked_at, threads=2).graph))
    best = quantised(equal, "percentile")
    found.append(("percentile, equalised", best))
    best = round_adaptively(equal, best, looked_at, threads=2).graph
    found.append(("percentile, equalised, rounded", best))
    found.append((f"{found[-1][0]}, biases corrected", correct_biases(equal, best, inputs, threads=2).graph))
    if form.name in BACKENDS:
        found.append(("percentile, 7-bit weights", quantised(model, "percentile", with_narrow_weights(form))))
    return found


def with_narrow_weights(form: Form) -> Form:
    """The form with integer weights of 7 bits, -63 to 63: exact on x86 processors without VNNI, and 1 dB coarser.

    There both CPU backends add two products u8 x s8 in 16 bits, with saturation (instruction VPMADDUBSW):
    2 * 255 * 127 does not fit, 2 * 255 * 63 does.
    """
    return replace(form, weight=replace(S8, largest=63))


def statistics_of(source: onnx.ModelProto, frames: Manifest, folder: Path) -> Mapping[str, TensorStatistics]:
    """Of every tensor that any form may quantise."""
    path = folder / "measured.onnx"
    onnx.save(source, path)
    tensors = sorted({name for form in FORMS.values() for name in tensors_to_measure(source, form)})
    return measure_statistics(path, tensors, frames, histograms=True, threads=2)


def run_of(model: onnx.ModelProto) -> Run:
    graph = WrittenGraph(model)

    def run(x: NDArray[Any]) -> NDArray[Any]:
        (result,) = graph.run(x).values()
        return result

    return run


def _crops(blurred: Frame, sharp: Frame) -> list[tuple[Frame, Frame]]:
    """A row of crops through the middle of the frame."""
    top = (blurred.shape[0] - SIDE) // 2
    edges = range(0, blurred.shape[1] + 1, SIDE)
    return [(blurred[top : top + SIDE, a:b], sharp[top : top + SIDE, a:b]) for a, b in pairwise(edges)]


def _flags() -> list[str]:
    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.is_file() else set()
    return sorted(words & {"avx2", "avx_vnni", "avx512_vnni", "amx_int8"})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None, sys.argv[2:])
