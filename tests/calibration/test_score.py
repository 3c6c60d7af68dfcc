"""The judge says what the comparison would say, and notices what shall be noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from unblur.calibration.score import HeldOut, Judge, Score
from unblur.compare.measure.fidelity import Restored, fidelity, quality
from unblur.core.errors import BudgetError, InputError
from unblur.engines.onnxruntime_runner import OnnxRuntimeRunner
from unblur.graphs.file import read_graph
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.decibels import Loss

FRAMES = [HeldOut(*synthetic_pair(seed, 48, 64, "heldout")) for seed in range(2)]


def nudged(graph: Path, factor: float = 1.01) -> onnx.ModelProto:
    """The graph with one weight tensor multiplied."""
    model = onnx.load(graph)
    weight = next(t for t in model.graph.initializer if t.name == "de_layer2.0.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    return model


def test_a_score_is_what_the_comparison_says(fixed_graph: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.onnx"
    onnx.save(nudged(fixed_graph), changed)
    score = Judge(fixed_graph, FRAMES).score(changed, exact=True)
    fidelities, losses = [], []
    for held in FRAMES:
        restored = []
        for path in (fixed_graph, changed):
            with OnnxRuntimeRunner("test", read_graph(path), 1) as runner:
                contract = runner.signature.contract
                tensor = runner.run(contract.encode(held.frame))
                restored.append(Restored(tensor, contract, contract.decode(tensor, *held.frame.shape[:2])))
        fidelities.append(fidelity(*restored).strictest_db)
        assert held.truth is not None
        losses.append(quality(restored[0].frame, held.truth).psnr_db - quality(restored[1].frame, held.truth).psnr_db)
    assert score.fidelity_db_mean == pytest.approx(np.mean(fidelities), abs=1e-3)
    assert score.fidelity_db_worst == pytest.approx(min(fidelities), abs=1e-3)
    assert score.psnr_loss_db == pytest.approx(np.mean(losses), abs=1e-6)
    assert 20 < score.fidelity_db_worst < 80


def test_the_same_graph_loses_nothing(fixed_graph: Path) -> None:
    score = Judge(fixed_graph, FRAMES).score(onnx.load(fixed_graph), exact=False)
    assert score == Score((float("inf"), float("inf")), Loss(0.0, 2))


def test_without_truth_there_is_no_loss(fixed_graph: Path) -> None:
    frames = [FRAMES[0], HeldOut(FRAMES[1].frame)]
    assert Judge(fixed_graph, frames).score(nudged(fixed_graph), exact=False).psnr_loss_db is None


def test_odd_frames_are_scored_without_their_padding(dynamic_graph: Path) -> None:
    frame, truth = synthetic_pair(1, 33, 47, "heldout")
    score = Judge(dynamic_graph, [HeldOut(frame, truth)]).score(nudged(dynamic_graph), exact=False)
    assert np.isfinite(score.fidelity_db_mean)


def test_exact_runs_the_graph_as_written(fixed_graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimiser removes a Q/DQ pair around a Clip that it thinks redundant, or fuses; written, it rounds."""
    import onnxruntime

    levels = []
    real = onnxruntime.InferenceSession

    def watched(model: bytes, options: onnxruntime.SessionOptions, **rest: object) -> onnxruntime.InferenceSession:
        levels.append(options.graph_optimization_level)
        return real(model, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    judge = Judge(fixed_graph, FRAMES[:1])
    judge.score(fixed_graph, exact=True)
    judge.score(fixed_graph, exact=False)
    level = onnxruntime.GraphOptimizationLevel
    assert levels == [level.ORT_ENABLE_ALL, level.ORT_DISABLE_ALL, level.ORT_ENABLE_ALL]


def test_budgets() -> None:
    score = Score((55.0, 45.0), Loss(0.03, 2))
    score.enforce("x", 45.0, 0.03)
    score.enforce("x", None, None)
    with pytest.raises(BudgetError, match=r"entropy: fidelity is 45.00 dB.*budget 46 dB"):
        score.enforce("entropy", 46.0, None)
    with pytest.raises(BudgetError, match=r"0.030 dB of PSNR are lost.*0.02 dB"):
        score.enforce("x", None, 0.02)
    with pytest.raises(BudgetError):
        Score((float("nan"),), None).enforce("x", 1.0, None)


def test_faults(fixed_graph: Path) -> None:
    with pytest.raises(InputError, match="no held-out frame"):
        Judge(fixed_graph, [])
    with pytest.raises(InputError, match="its truth"):
        Judge(fixed_graph, [HeldOut(FRAMES[0].frame, FRAMES[0].frame[:-2])])
    with pytest.raises(InputError, match="built for 48x64"):
        Judge(fixed_graph, [HeldOut(FRAMES[0].frame[:-2])])
    judge = Judge(fixed_graph, FRAMES[:1])
    foreign = onnx.load(fixed_graph)
    helper.set_model_props(foreign, {})
    with pytest.raises(InputError, match="which pixels it takes"):
        judge.score(foreign, exact=True)
    with pytest.raises(InputError, match="NaN or infinite"):
        judge.score(nudged(fixed_graph, float("nan")), exact=True)
    broken = onnx.load(fixed_graph)
    broken.graph.node[0].op_type = "Convolve"
    with pytest.raises(InputError, match="cannot run the candidate"):
        judge.score(broken, exact=True)
