"""NNCF, run in an environment of its own by measure_peers.py: WORK -> WORK/nncf-*.xml.

https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html:
`nncf.quantize` of the model that OpenVINO reads; MIXED is its advice for networks whose activations have a sign.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nncf
import numpy as np
import openvino
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters as Advanced
from nncf.quantization.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    StatisticsCollectorParameters,
    StatisticsType,
)

WORK = Path(sys.argv[1])
FACTS = json.loads((WORK / "facts.json").read_text())


def cut(share: float) -> RangeEstimatorParameters:
    """Each end at its quantile."""
    low, high = (
        StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=share)
        for _ in range(2)
    )
    return RangeEstimatorParameters(low, high)


OTHERS = nncf.IgnoredScope(
    types=["Add", "Multiply", "MatMul", "Concat", "Sigmoid", "Gather", "ConvolutionBackpropData"],
    # OpenVINO reads a convolution with a bias as two operations.
    names=[name + end for name in FACTS["kept"] for end in ("", "/WithoutBiases")],
    validate=False,
)
WAYS = {
    "default": {},
    "mixed": {"preset": nncf.QuantizationPreset.MIXED},
    "mixed, the same convolutions, their inputs only, 1e-4 quantiles, no bias correction": {
        "preset": nncf.QuantizationPreset.MIXED,
        "ignored_scope": OTHERS,
        "advanced_parameters": Advanced(disable_bias_correction=True, activations_range_estimator_params=cut(1e-4)),
    },
}
frames = [{FACTS["input"]: frame} for frame in np.load(WORK / "calibration.npy")]
made = []
for number, (how, options) in enumerate(WAYS.items()):
    model = openvino.Core().read_model(WORK / "float.onnx")
    quantised = nncf.quantize(model, nncf.Dataset(frames), subset_size=len(frames), **options)
    file = f"nncf-{number}.xml"
    openvino.save_model(quantised, WORK / file, compress_to_fp16=False)
    made.append({"how": how, "file": file})
(WORK / "nncf.json").write_text(json.dumps(made))
