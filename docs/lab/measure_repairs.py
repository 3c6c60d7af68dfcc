"""What repairs gain in each form, on every trained checkpoint here; writes 8-bit-repairs.json beside this file.

    python docs/lab/measure_repairs.py [CHECKPOINT ...]

Ranges by percentile over the bundled manifest's frames; scored on drawn held-out frames, as `unblur calibrate` does.
A row that is there already is not measured again: delete the file after a change. A network that a form or a repair is
not for is a row with the reason.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import unblur
from unblur.calibration.repairs.names import EQUALISATION, ROUNDING
from unblur.core.artefacts import write_json
from unblur.core.errors import UnblurError
from unblur.core.provenance import machine, package_versions
from unblur.graphs.rewrites.forms import FORMS

HERE = Path(__file__).parent
CHECKPOINTS = sorted((HERE.parents[1] / "checkpoints").glob("*.safetensors"))
WAYS = ((), (EQUALISATION,), (ROUNDING,), (EQUALISATION, ROUNDING))


def main() -> None:
    checkpoints = [Path(word) for word in sys.argv[1:]] or CHECKPOINTS
    results = HERE / "8-bit-repairs.json"
    rows: list[dict[str, Any]] = json.loads(results.read_text())["trained"] if results.exists() else []
    done = {(row["checkpoint"], row["form"], tuple(row["repairs"])) for row in rows}
    for checkpoint in checkpoints:
        for form in FORMS:
            for repairs in WAYS:
                if (checkpoint.stem, form, repairs) in done:
                    continue
                row = {"checkpoint": checkpoint.stem, "form": form, "repairs": repairs} | score(
                    checkpoint, form, repairs
                )
                print(json.dumps(row), flush=True)
                rows.append(row)
                write_json(results, {"machine": machine(), "versions": package_versions(), "trained": rows})


def score(checkpoint: Path, form: str, repairs: tuple[str, ...]) -> dict[str, Any]:
    """Of one graph; `seconds` are of what was not made for a row before."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = unblur.calibrate(checkpoint, Path(folder) / "graph.onnx", form=form, repairs=repairs)
        except UnblurError as error:
            return {"reason": str(error)}
    return {
        "fidelity_db_mean": round(made.fidelity_db_mean, 2),
        "fidelity_db_worst": round(made.fidelity_db_worst, 2),
        "psnr_loss_db": None if made.psnr_loss_db is None else round(made.psnr_loss_db, 4),
        "seconds": round(time.monotonic() - began, 1),
    }


if __name__ == "__main__":
    main()
