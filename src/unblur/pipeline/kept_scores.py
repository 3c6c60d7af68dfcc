"""Which scores of single frames a comparison may take from an earlier one, also from one that was killed."""

from __future__ import annotations

from collections.abc import Mapping

from unblur.compare.measure.scores import Kept
from unblur.engines.catalogue import is_calibrated
from unblur.engines.named import name_engine
from unblur.images.contract import PixelContract
from unblur.pipeline.dependence import depends_on
from unblur.pipeline.job import Job
from unblur.pipeline.store import Recipe

FOLDER = "scores"
"""Of the store."""


def kept_scores(
    job: Job,
    rows: Mapping[str, str],
    digest: str,
    *,
    output: str | None = None,
    contract: PixelContract | None = None,
    dynamic: bool = False,
) -> Kept:
    """Keys of the rows of a comparison: name in the report -> the engine as it was named, the reference too.

    `digest`: of what the reference runs. `output` and `contract`: as they were given for files that do not say them.
    `dynamic`: graphs of every size are run. A key holds what the engine is, its file, its calibration, threads, the
    machine and the toolchain: another of any of them is another score.
    """
    device, pixels = job.config.compare.device, contract and contract.to_json()
    common = {"threads": job.threads, "output": output, "contract": pixels, "dynamic": dynamic,
              "channel_order": job.config.network.channel_order}  # fmt: skip
    keys = {}
    for row, text in rows.items():
        depends = depends_on([name_engine(text, output, contract, device=device)], device)
        calibrated = {"calibration": job.calibration.to_json()} if is_calibrated(text) else {}
        recipe = Recipe(
            FOLDER, common | calibrated | depends.spec, {"reference": digest}, depends.packages, machine_bound=True
        )
        keys[row] = recipe.key
    return Kept(job.store.root / FOLDER, keys)
