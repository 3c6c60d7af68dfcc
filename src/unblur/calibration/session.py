"""ONNX Runtime sessions of graphs that are only being worked on, and so have no file and no runner yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx

from unblur.core.errors import InputError
from unblur.engines.onnxruntime_runner import open_onnxruntime

PROVIDER = "CPUExecutionProvider"
WHO = "calibration"


def open_session(model: onnx.ModelProto, what: str, threads: int, adjust: Callable[[Any, Any], None]) -> Any:
    """A session of `model` on the CPU; `adjust(options, onnxruntime)` changes its options.

    Raises MissingRuntimeError without ONNX Runtime, InputError naming `what` for a graph that it refuses.
    """
    onnxruntime = open_onnxruntime(WHO)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # many pools at once would spin
    adjust(options, onnxruntime)
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[PROVIDER])
    except Exception as error:  # ONNX Runtime's classes have no common base
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise InputError(f"ONNX Runtime cannot run {what} ({str(error).splitlines()[0]}); export it again.") from error
