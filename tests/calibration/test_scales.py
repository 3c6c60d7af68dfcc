from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from unblur.calibration.scales import demand_fitting_scales, misfit_scales
from unblur.core.errors import BudgetError, InputError
from unblur.graphs.rewrites.forms import FP8, ONNXRUNTIME, OPENVINO, TENSORRT, Form
from unblur.graphs.rewrites.quantise import QuantisedGraph, quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph

FORMS = (OPENVINO, ONNXRUNTIME, TENSORRT, dataclasses.replace(FP8, narrowest=1))


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 3, 48, 64), np.float32) - np.float32(0.5)


def graph_of(path: Path, form: Form, brightness: float = 1.0) -> QuantisedGraph:
    model = onnx.load(path)
    values = WrittenGraph(model, tensors_to_measure(model, form)).run(frame(0) * np.float32(brightness))
    ranges = {name: Range(float(v.min()), float(v.max())) for name, v in values.items()}
    return quantise(model, Ranges("min-max", ranges), form)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_scales_fit_other_frames_and_any_of_them_times_four_is_caught(form: Form, fixed_graph: Path) -> None:
    graph = graph_of(fixed_graph, form)
    assert misfit_scales(graph.model, form, [frame(1)]) == ()
    demand_fitting_scales(())
    tensors = dict.fromkeys(convolution.data for convolution in graph.convolutions)
    for tensor in list(tensors)[::3]:
        broken = onnx.ModelProto()
        broken.CopyFrom(graph.model)
        scale = next(t for t in broken.graph.initializer if t.name == f"{tensor}/scale")
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(4), scale.name))
        found = misfit_scales(broken, form, [frame(1)])
        # A map that vanishes for its coarse steps can leave those behind it too small as well.
        assert {misfit.tensor: misfit.use for misfit in found}[tensor] < 0.4
        with pytest.raises(BudgetError, match=r"scales do not fit the maps(.|\n)*the frames use 0\.\d+ times"):
            demand_fitting_scales(found)


@pytest.mark.parametrize(("brightness", "least"), [(1e-3, 1), (10, 10)])
def test_calibration_on_black_or_far_too_bright_frames_is_caught(
    brightness: float, least: int, fixed_graph: Path
) -> None:
    # Behind the first map that is cut off all others are as small as they were in the dark.
    found = misfit_scales(graph_of(fixed_graph, OPENVINO, brightness).model, OPENVINO, [frame(1)])
    assert len(found) >= least
    with pytest.raises(BudgetError, match="Calibrate again"):
        demand_fitting_scales(found)


def test_no_frame_is_an_error(fixed_graph: Path) -> None:
    with pytest.raises(InputError, match="at least one frame"):
        misfit_scales(graph_of(fixed_graph, OPENVINO).model, OPENVINO, [])
