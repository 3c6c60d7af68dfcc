"""AIMET, run in an environment of its own by measure_peers.py: WORK -> WORK/aimet-0.onnx.

https://quic.github.io/aimet-pages: `QuantizationSimModel` with the scheme `post_training_tf_enhanced` (least squared
error), encodings computed on the calibration frames, exported as Q/DQ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from aimet_onnx.quantsim import QuantizationSimModel

WORK = Path(sys.argv[1])
FACTS = json.loads((WORK / "facts.json").read_text())
frames = np.load(WORK / "calibration.npy")
simulated = QuantizationSimModel(
    onnx.load(WORK / "float.onnx"),
    quant_scheme="tf_enhanced",
    param_type="int8",
    activation_type="int8",
    providers=["CPUExecutionProvider"],
)
simulated.compute_encodings([{FACTS["input"]: frame} for frame in frames])
onnx.save(simulated.to_onnx_qdq(), WORK / "aimet-0.onnx")
(WORK / "aimet.json").write_text(json.dumps([{"how": "least squared error", "file": "aimet-0.onnx"}]))
