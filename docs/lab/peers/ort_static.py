"""ONNX Runtime's static quantisation, run in an environment of its own by measure_peers.py: WORK -> WORK/ort-*.onnx.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html: pre-process, then `quantize_static` with
QDQ; on x86-64 with VNNI u8 activations and s8 weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

WORK = Path(sys.argv[1])
FACTS = json.loads((WORK / "facts.json").read_text())
U8S8 = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
PERCENTILE = {"calibrate_method": CalibrationMethod.Percentile}
EXTRA = {"CalibPercentile": 99.99}
SAME = {
    "op_types_to_quantize": ["Conv"],
    "nodes_to_exclude": FACTS["kept"],
}
WAYS = {
    "default": {},
    "u8 s8, a scale a channel": U8S8,
    "percentile 99.99": U8S8 | PERCENTILE | {"extra_options": EXTRA},
    "percentile 99.99, the same convolutions, their inputs only": U8S8
    | PERCENTILE
    | SAME
    | {"extra_options": EXTRA | {"OpTypesToExcludeOutputQuantization": ["Conv"]}},
}


class Frames(CalibrationDataReader):
    def __init__(self) -> None:
        self._frames = iter(np.load(WORK / "calibration.npy"))

    def get_next(self) -> dict[str, np.ndarray] | None:
        frame = next(self._frames, None)
        return None if frame is None else {FACTS["input"]: frame}


quant_pre_process(WORK / "float.onnx", WORK / "ort-prepared.onnx", skip_symbolic_shape=True)
made = []
for number, (how, options) in enumerate(WAYS.items()):
    file = f"ort-{number}.onnx"
    quantize_static(WORK / "ort-prepared.onnx", WORK / file, Frames(), **options)
    made.append({"how": how, "file": file})
(WORK / "ort.json").write_text(json.dumps(made))
