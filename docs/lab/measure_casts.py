"""What FP16 and BF16 cost on the bundled network; writes 16-bit-casts.json beside this file.

    python docs/lab/measure_casts.py [GOPRO_FOLDER]

The frames and the scores are those of measure_forms.py. Arithmetic in 16 bits is emulated in float32
(src/unblur/graphs/rewrites/emulation.py), so that any CPU can run it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import onnx
from measure_forms import CHECKPOINT, SIDE, panels_of, run_of

from unblur.core.artefacts import write_json
from unblur.core.provenance import package_versions
from unblur.export.graph import export_graph
from unblur.graphs.rewrites.casting import NARROW_TYPES, cast_graph
from unblur.graphs.rewrites.emulation import widen
from unblur.networks.checkpoints import load_checkpoint


def main(gopro: Path | None) -> None:
    checkpoint = load_checkpoint(CHECKPOINT)
    contract = checkpoint.contract
    with tempfile.TemporaryDirectory(prefix="unblur-") as folder:
        path = Path(folder) / "float.onnx"
        export_graph(checkpoint, path, height=SIDE, width=SIDE)
        model = onnx.load(path)
    panels = panels_of(gopro, contract, run_of(model))
    rows = []
    for precision in NARROW_TYPES:
        narrow = run_of(widen(cast_graph(model, precision).model, precision))
        scores = {p.name: p.score(narrow, lambda t: contract.decode(t, SIDE, SIDE)) for p in panels}
        rows.append({"precision": precision, **scores})
        print(json.dumps(rows[-1]), flush=True)
    write_json(
        Path(__file__).parent / "16-bit-casts.json",
        {"checkpoint_sha256": checkpoint.digest, "side_px": SIDE, "frames": {p.name: len(p.pairs) for p in panels},
         "versions": package_versions(), "rows": rows},
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
