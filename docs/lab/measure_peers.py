"""unblur's forms and other quantisers on the same graph, calibration frames and pictures; writes peers.json.

    python docs/lab/measure_peers.py GOPRO_FOLDER BLURRED_PICTURE [--only NAME ...] [--work FOLDER]

18 pictures of 256x256: 8 drawn ones of the split "heldout", 5 crops of the first test pair of GOPRO_FOLDER, 5 of
BLURRED_PICTURE, which has no truth. Each peer gets a virtual environment in the work folder with the versions pinned
here, and is run as its documentation advises (docs/lab/peers). Rows of peers that were not asked for stay as they are;
one that cannot be installed or fails is a row with the reason. Needs a package registry; no test runs it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

import unblur
from unblur.calibration.manifest import load_manifest
from unblur.core.artefacts import write_json
from unblur.core.errors import UnblurError
from unblur.core.provenance import package_versions
from unblur.engines.catalogue import open_engine, pick_engine
from unblur.export.graph import export_graph
from unblur.graphs.facts import read_facts
from unblur.graphs.rewrites.forms import FORMS, OPENVINO
from unblur.graphs.rewrites.keeping import kept_by_default
from unblur.graphs.sessions import WrittenGraph
from unblur.images.contract import Frame
from unblur.images.files import read_picture
from unblur.images.pairs import find_pairs, read_pair
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.quality import psnr_db
from unblur.networks.checkpoints import load_checkpoint
from unblur.pipeline.places import bundled_manifest

HERE = Path(__file__).parent
CHECKPOINT = HERE.parents[1] / "checkpoints" / "banet-nano.safetensors"
SIDE, DRAWN = 256, range(100, 108)
WRITTEN = "as written"
OURS = {"unblur": "percentile", "unblur-best": "best"}
"""Who -> the algorithm: what is taken if nothing is said, and a bake-off."""


@dataclass(frozen=True)
class Peer:
    """requirements: pinned, for pip, in steps; runs_in: what executes its graphs: an engine, or WRITTEN."""

    name: str
    script: str
    requirements: Sequence[Sequence[str]]
    runs_in: str


CPU_TORCH = ("--extra-index-url", "https://download.pytorch.org/whl/cpu")
PEERS = (
    Peer("ONNX Runtime quantize_static", "ort", [["onnxruntime==1.31.1", "onnx==1.23.2"]], "onnxruntime"),
    Peer("NNCF", "nncf", [["nncf==3.4.0", "openvino==2026.4.0"]], "openvino"),
    Peer("ModelOpt", "modelopt",
         [[*CPU_TORCH, "torch==2.13.0", "onnx==1.21.0", "onnxruntime==1.24.4", "onnx-graphsurgeon", "polygraphy",
           "onnxconverter-common", "onnxslim", "scipy", "rich", "pulp", "pydantic", "regex", "tqdm", "nvidia-ml-py",
           "ninja", "safetensors", "packaging", "lief", "cppimport", "onnxscript", "ml_dtypes"],
          ["--no-deps", "nvidia-modelopt==0.47.0"]], WRITTEN),
    Peer("AIMET", "aimet", [[*CPU_TORCH, "torch==2.13.0", "aimet-onnx==2.42.0"]], WRITTEN),
)  # fmt: skip
SCRIPTS = {"ort": "ort_static.py", "nncf": "nncf_quantise.py", "modelopt": "modelopt_quantise.py",
           "aimet": "aimet_quantise.py"}  # fmt: skip


class Protocol:
    """The pictures, and what the float32 graph makes of them."""

    def __init__(self, work: Path, gopro: Path, blurred: Path) -> None:
        self.work, self.checkpoint = work, load_checkpoint(CHECKPOINT)
        self.graph = work / "float.onnx"
        export_graph(self.checkpoint, self.graph, height=SIDE, width=SIDE, check=False)
        pair = read_pair(find_pairs(gopro, "gopro", "test")[0])
        self.pictures: list[tuple[Frame, Frame | None]] = [
            *(synthetic_pair(seed, SIDE, SIDE, "heldout") for seed in DRAWN),
            *zip(_crops(pair[0]), _crops(pair[1]), strict=True),
            *((crop, None) for crop in _crops(read_picture(blurred).frame)),
        ]
        self.inputs = [self.checkpoint.contract.encode(picture) for picture, _ in self.pictures]
        self._reference = list(self.run(self.graph, WRITTEN))

    def run(self, file: Path, runs_in: str) -> Iterator[NDArray[Any]]:
        if runs_in == WRITTEN:
            graph = WrittenGraph(onnx.load(file), threads=2)
            yield from (graph.output(tensor) for tensor in self.inputs)
        elif file.suffix == ".xml":
            yield from _openvino(file, self.inputs)
        else:
            with open_engine(runs_in, self.checkpoint, file, 2) as runner:
                yield from (runner.run(tensor) for tensor in self.inputs)

    def score(self, file: Path, runs_in: str) -> dict[str, float]:
        """Fidelity to float32 (peak 1) and loss of PSNR against truth, where there is one."""
        decode = self.checkpoint.contract.decode
        fidelity, loss = [], []
        for (_, truth), before, after in zip(self.pictures, self._reference, self.run(file, runs_in), strict=True):
            fidelity.append(psnr_db(after, before, peak=1.0))
            if truth is not None:
                a, b = (psnr_db(decode(tensor, SIDE, SIDE), truth, peak=255) for tensor in (before, after))
                loss.append(a - b)
        return {
            "fidelity_db_mean": round(fmean(fidelity), 2),
            "fidelity_db_worst": round(min(fidelity), 2),
            "psnr_loss_db": round(fmean(loss), 4),
        }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("gopro", type=Path)
    parser.add_argument("blurred", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*OURS, *(peer.script for peer in PEERS)])
    parser.add_argument("--work", type=Path, default=HERE.parents[1] / "artifacts" / "peers")
    arguments = parser.parse_args(argv)
    work: Path = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    protocol = Protocol(work, arguments.gopro, arguments.blurred)
    _write_facts(work, protocol)
    file = HERE / "peers.json"
    table = json.loads(file.read_text()) if file.exists() else {"blurred": arguments.blurred.name, "rows": []}
    if table["blurred"] != arguments.blurred.name:  # another picture alone is worth 2 dB of the worst
        raise SystemExit(f"The rows of {file} are of {table['blurred']}, not {arguments.blurred.name}: name that one.")
    kept = table["rows"]
    asked = arguments.only or [*OURS, *(peer.script for peer in PEERS)]
    for who, algorithm in OURS.items():
        if who in asked:
            kept = _replaced(kept, who, list(_ours(protocol, algorithm)), file, arguments.blurred)
    for peer in PEERS:
        if peer.script in asked:
            kept = _replaced(kept, peer.name, _theirs(peer, protocol), file, arguments.blurred)


def _replaced(
    kept: Sequence[Mapping[str, Any]], who: str, rows: Sequence[Mapping[str, Any]], file: Path, blurred: Path
) -> list[Any]:
    """Write the table with these rows in the place of the old ones of the same peer."""
    today = datetime.now(UTC).date().isoformat()
    order = [*OURS, *(peer.name for peer in PEERS)]
    new = [*(row for row in kept if row["peer"] != who), *({"peer": who, "date": today} | dict(row) for row in rows)]
    new.sort(key=lambda row: order.index(row["peer"]))
    about = {
        "network": "banet_nano", "side_px": SIDE, "calibration": bundled_manifest().name, "pictures": 18,
        "blurred": blurred.name, "versions": package_versions(), "peers": True, "rows": new,
    }  # fmt: skip
    write_json(file, about)
    print(json.dumps(rows, indent=1), flush=True)
    return new


def _write_facts(work: Path, protocol: Protocol) -> None:
    """What a peer's script reads: the graph's input, what our default keeps in floating point, the frames."""
    model = onnx.load(protocol.graph)
    frames = list(load_manifest(bundled_manifest(), work / "frames"))
    np.save(work / "calibration.npy", np.stack([protocol.checkpoint.contract.encode(frame) for frame in frames]))
    facts = {"input": model.graph.input[0].name, "kept": sorted(kept_by_default(model, OPENVINO))}
    (work / "facts.json").write_text(json.dumps(facts))


def _ours(protocol: Protocol, algorithm: str) -> Iterator[dict[str, Any]]:
    """Each form, through the interface that people have."""
    for form in FORMS:
        runs_in = form if form in ("openvino", "onnxruntime") else WRITTEN
        file = protocol.work / f"unblur-{form}-{algorithm}.onnx"
        made = unblur.calibrate(CHECKPOINT, file, (SIDE, SIDE), form=form, algorithm=algorithm)
        yield _row(f"{form}: {' + '.join((made.algorithm, *made.repairs))}", file, runs_in, protocol)


def _theirs(peer: Peer, protocol: Protocol) -> list[dict[str, Any]]:
    """Rows of a peer; one that says why there is nothing."""
    python = protocol.work / peer.script / "bin" / "python"
    try:
        if not python.exists():
            _command(sys.executable, "-m", "venv", str(python.parents[1]))
            for step in peer.requirements:
                _command(str(python), "-m", "pip", "install", "--quiet", *step)
        _command(str(python), str(HERE / "peers" / SCRIPTS[peer.script]), str(protocol.work))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        lines = [line for line in str(error.stderr or error).strip().splitlines() if line.strip()]
        return [{"how": "not measured", "reason": lines[-1][:300] if lines else str(error)}]
    made = json.loads((protocol.work / f"{peer.script}.json").read_text())
    listed = json.loads(_command(str(python), "-m", "pip", "list", "--format", "json"))
    named = {step.partition("==")[0] for steps in peer.requirements for step in steps if "==" in step}
    versions = {one["name"]: one["version"] for one in listed if one["name"] in named}
    return [{"versions": versions} | _row_or_reason(peer, one["how"], one["file"], protocol) for one in made]


def _row_or_reason(peer: Peer, how: str, file: str, protocol: Protocol) -> dict[str, Any]:
    """A row, or what the engine said that refuses the peer's graph."""
    try:
        return _row(how, protocol.work / file, peer.runs_in, protocol)
    except (RuntimeError, UnblurError) as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        return {"how": how, "reason": f"{peer.runs_in} refuses the graph: {said[-1][:200]}"}


def _command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=3600).stdout


def _row(how: str, file: Path, runs_in: str, protocol: Protocol) -> dict[str, Any]:
    row: dict[str, Any] = {"how": how, "runs_in": runs_in}
    if file.suffix == ".xml":
        row["macs_share_8_bits"] = round(_openvino_share(file), 4)
    else:
        model = onnx.load(file)
        dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
        asked = {node.name for node in model.graph.node if dequantised.issuperset(node.input[:2])}
        row["macs_share_8_bits"] = round(_share(model, asked), 4)
        realised = None if runs_in == WRITTEN else pick_engine(runs_in, "int8").realised
        if realised is not None:  # the backend fuses pairs into an 8-bit kernel, or computes them one by one
            row["macs_share_run_in_8_bits"] = round(_share(model, realised(file)), 4)
    return row | protocol.score(file, runs_in)


def _share(model: onnx.ModelProto, names: Collection[str]) -> float:
    """Of the convolutions' multiply-accumulates: those of these nodes."""
    facts = read_facts(model, SIDE, SIDE)
    return sum(one.macs for one in facts.convolutions if one.name in names) / facts.convolution_macs


def _openvino_share(file: Path) -> float:
    """The same of an OpenVINO model: convolutions that read what a FakeQuantize has rounded."""
    import openvino

    total = eight = 0
    for node in openvino.Core().read_model(file).get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution", "ConvolutionBackpropData"):
            weight, result = node.input(1).get_shape(), node.output(0).get_shape()
            read = node.input(0).get_shape() if node.get_type_name() == "ConvolutionBackpropData" else result
            macs = int(np.prod(weight)) * int(np.prod(read[2:]))
            total += macs
            eight += macs * _is_rounded(node.input_value(0).get_node())
    return eight / total


def _is_rounded(node: Any) -> bool:
    """Whether its values are those of a FakeQuantize, perhaps moved."""
    kind = node.get_type_name()
    if kind in ("Split", "VariadicSplit", "Slice", "StridedSlice", "Reshape", "Transpose", "Pad", "Concat"):
        values = node.input_values() if kind == "Concat" else node.input_values()[:1]
        return all(_is_rounded(value.get_node()) for value in values)
    return bool(kind == "FakeQuantize")


def _openvino(file: Path, inputs: Sequence[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """An .xml on the CPU, its float rest in float32."""
    import openvino

    compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    yield from (compiled(tensor)[0].copy() for tensor in inputs)


def _crops(frame: Frame) -> list[Frame]:
    """A row of crops through the middle."""
    top = (frame.shape[0] - SIDE) // 2
    return [frame[top : top + SIDE, a:b] for a, b in pairwise(range(0, frame.shape[1] + 1, SIDE))]


if __name__ == "__main__":
    main()
