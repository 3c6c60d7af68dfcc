"""What `unblur build` says of the engines that it made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unblur.building.best import Best
    from unblur.building.engine import BuiltEngine
    from unblur.cli.output import Output
    from unblur.pipeline.run import BuiltFile


def tell_best(out: Output, best: Best) -> None:
    """Every precision that was built, why the best is the best, and the best."""
    for ranked in best.ranking:
        bounds = ", ".join(f"{gpu} {ms:.3g} ms" for gpu, ms in ranked.bounds_ms.items()) or "no GPU known"
        measured = "" if ranked.latency_ms is None else f"  {ranked.latency_ms:.3g} ms measured"
        out.say(f"{ranked.precision:<5} {ranked.score:.3f}{measured}  lower bound: {bounds}  {ranked.built.path}")
    for name, reason in best.left_out:
        out.say(f"{name:<5} left out: {reason.splitlines()[0]}")
    out.say(f"best: {best.why}")
    tell_built(out, best.winner)
    out.say(f"ranking {best.report_path}")


def tell_built(out: Output, built: BuiltEngine | BuiltFile) -> None:
    """An engine: what it is, what its precision cost, and what its kernels run in and move."""
    from unblur.calibration.score import Score
    from unblur.metrics.decibels import decibels_from_json, decibels_text

    manifest = built.manifest
    out.say(f"{built.path}: {manifest['product']} {manifest['version']}, {manifest['precision']}, "
          f"{manifest['engine_bytes'] / 1e6:.1f} MB in {manifest['build_seconds']:.1f} s")  # fmt: skip
    if cast := manifest.get("cast"):
        islands = ", ".join(f"{island['nodes']} {island['operator']}" for island in cast["islands"])
        for judged in cast["judged_on"]:
            known_db = decibels_from_json(judged["fidelity_db"])
            fidelity = "nothing lost" if math.isinf(known_db) else f"{known_db:.1f} dB of fidelity"
            out.say(f"cast: {fidelity}, judged on: {judged['on']}; kept in FP32 for it: {islands or 'nothing'}")
    if calibration := manifest.get("calibration"):
        out.say(f"calibrated by {calibration['algorithm']} on {calibration['frames']} frames of "
              f"{calibration['manifest']}, repairs: {', '.join(calibration['repairs']) or 'none'}")  # fmt: skip
    if score := manifest.get("score"):
        known = Score.from_json(score)
        mean, worst = decibels_text(known.fidelity_db_mean, 1), decibels_text(known.fidelity_db_worst, 1)
        lost = decibels_text(known.psnr_loss_db, 4, signed=True)
        out.say(f"score: {mean} dB of fidelity (worst {worst}), {lost} dB of PSNR lost on {score['frames']}"
             f"{known.loss_remark}")  # fmt: skip
    builds = manifest["builds"]
    if len(builds) > 1:
        different = len({attempt["sha256"] for attempt in builds})
        out.say(
            f"{len(builds)} builds gave {different} different engine(s); kept number {manifest['chosen_build'] + 1}"
        )
    at = f" at {'x'.join(map(str, manifest['seen_at']))}" if manifest["seen_at"] else ""
    for target, kernels in manifest["targets"].items():
        realised = ", ".join(f"{count} {kind}" for kind, count in sorted(kernels["convolutions_run_in"].items()))
        out.say(f"{target}: {kernels['kernels']} kernels move {kernels['bytes_moved'] / 1e9:.3f} GB a frame{at}; "
              f"convolutions run in: {realised}")  # fmt: skip
    out.say(f"manifest {built.path}.json, compiled graph {built.path}.onnx")
