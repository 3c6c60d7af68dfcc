"""NVIDIA ModelOpt, run in an environment of its own by measure_peers.py: WORK -> WORK/modelopt-*.onnx.

https://nvidia.github.io/Model-Optimizer/guides/_onnx_quantization.html: `modelopt.onnx.quantization.quantize`. Its
extra `onnx` asks for packages of CUDA; without them it calibrates on the CPU.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from modelopt.onnx.quantization import quantize

WORK = Path(sys.argv[1])
FACTS = json.loads((WORK / "facts.json").read_text())
WAYS = {
    "int8, entropy": {"quantize_mode": "int8", "calibration_method": "entropy"},
    "int8, entropy, the same convolutions": {
        "quantize_mode": "int8",
        "calibration_method": "entropy",
        "op_types_to_quantize": ["Conv"],
        "nodes_to_exclude": FACTS["kept"],
    },
    "fp8": {"quantize_mode": "fp8", "calibration_method": "max"},
}
frames = np.load(WORK / "calibration.npy")
data = {FACTS["input"]: np.concatenate(list(frames))}
made = []
for number, (how, options) in enumerate(WAYS.items()):
    file = f"modelopt-{number}.onnx"
    quantize(
        str(WORK / "float.onnx"),
        calibration_data=data,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(WORK / file),
        **options,
    )
    made.append({"how": how, "file": file})
(WORK / "modelopt.json").write_text(json.dumps(made))
