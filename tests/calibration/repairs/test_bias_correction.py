from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from unblur.calibration.repairs.bias_correction import correct_biases, shift_biases
from unblur.core.errors import InputError
from unblur.graphs.rewrites.forms import ONNXRUNTIME, OPENVINO, TENSORRT_RTX, Form
from unblur.graphs.rewrites.quantise import quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph

FRAMES = [np.random.default_rng(k).random((1, 3, 48, 64), np.float32) - np.float32(0.5) for k in range(2)]


def measured(model: onnx.ModelProto, form: Form) -> Ranges:
    graph = WrittenGraph(model, tensors_to_measure(model, form))
    runs = [graph.run(x) for x in FRAMES]
    # Half of what occurs: clipping moves means, which is what the repair is to give back.
    ends = {name: (min(r[name].min() for r in runs), max(r[name].max() for r in runs)) for name in runs[0]}
    return Ranges("half", {name: Range(float(a) / 2, float(b) / 2) for name, (a, b) in ends.items()})


@pytest.mark.parametrize("form", [OPENVINO, ONNXRUNTIME, TENSORRT_RTX], ids=lambda form: form.name)
def test_each_channel_gets_its_mean_back(form: Form, fixed_graph: Path) -> None:
    model = onnx.load(fixed_graph)
    graph = quantise(model, measured(model, form), form)
    repaired = correct_biases(model, graph, FRAMES)
    onnx.checker.check_model(repaired.graph.model, full_check=True)
    outputs = [next(n.output[0] for n in model.graph.node if n.name == c.name) for c in graph.convolutions]

    def error(quantised: onnx.ModelProto) -> float:
        """Largest difference of a channel's mean, against the largest spread of the channels of its tensor."""
        both = [WrittenGraph(m, outputs) for m in (model, quantised)]
        runs = [[g.run(x) for x in FRAMES] for g in both]
        worst = 0.0
        for name in outputs:
            means = [np.mean([r[name].mean(axis=(0, 2, 3), dtype=np.float64) for r in run], axis=0) for run in runs]
            worst = max(worst, float(np.abs(means[1] - means[0]).max() / runs[0][0][name].std()))
        return worst

    before, after = error(graph.model), error(repaired.graph.model)
    assert before > 0.05
    # Seen: 1e-6 with float biases, 4e-3 with biases in whole steps.
    assert after < (0.02 if form is ONNXRUNTIME else 1e-4)
    assert set(repaired.shifts) == {c.name for c in graph.convolutions}
    assert max(np.abs(shift).max() for shift in repaired.shifts.values()) > 0
    again = shift_biases(graph, repaired.shifts)
    assert again.convolutions == repaired.graph.convolutions
    biases = [{t.name: t.raw_data for t in m.graph.initializer} for m in (again.model, repaired.graph.model)]
    assert biases[0] == biases[1]
    weights = [{t.name: t.raw_data for t in m.graph.initializer} for m in (graph.model, repaired.graph.model)]
    assert all(weights[0][c.weight] == weights[1][c.weight] for c in graph.convolutions)


def test_no_frame_is_an_error(fixed_graph: Path) -> None:
    model = onnx.load(fixed_graph)
    graph = quantise(model, measured(model, OPENVINO), OPENVINO)
    with pytest.raises(InputError, match="at least one calibration frame"):
        correct_biases(model, graph, [])
