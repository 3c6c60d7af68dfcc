"""ONNX Runtime on the CPU, in the precision that the graph holds."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.core.errors import InputError, MissingRuntimeError
from unblur.engines.base import BaseRunner
from unblur.engines.graph_file import GraphFile

PROVIDER = "CPUExecutionProvider"


def open_onnxruntime(who: str) -> Any:
    """The module onnxruntime, which must be imported here only. Raises MissingRuntimeError with the way to get it.

    From 1.29 on it sends usage data and keeps a device id in the user's cache unless this variable is set before the
    first session; a person who wants that sets it to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingRuntimeError(
            f'{who}: the package onnxruntime is not installed ({error}); pip install "unblur[cpu]".'
        ) from error


class OnnxRuntimeRunner(BaseRunner):
    """A graph in ONNX Runtime, CPUExecutionProvider only, one stream of `threads` threads."""

    def __init__(self, name: str, graph: GraphFile, threads: int) -> None:
        """Raises MissingRuntimeError without the package, InputError for a graph ONNX Runtime refuses."""
        onnxruntime = open_onnxruntime(name)
        from onnxruntime.capi import onnxruntime_pybind11_state as states

        if PROVIDER not in onnxruntime.get_available_providers():
            raise MissingRuntimeError(f'{name}: this onnxruntime has no {PROVIDER}; pip install "unblur[cpu]".')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3  # errors: the warnings are about its own graph rewriting
        # Threads that spin on after a run would slow whoever runs next, in a comparison above all.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session = onnxruntime.InferenceSession(str(graph.path), options, providers=[PROVIDER])
        except (states.Fail, states.InvalidGraph, states.InvalidProtobuf, states.InvalidArgument,
                states.NotImplemented, states.RuntimeException) as error:  # fmt: skip
            first = str(error).splitlines()[0]
            raise InputError(f"ONNX Runtime cannot open {graph.path} ({first}); export it again.") from error
        session.disable_fallback()
        if session.get_providers() != [PROVIDER]:
            raise MissingRuntimeError(f"{name}: ONNX Runtime chose {session.get_providers()} instead of {PROVIDER}.")
        super().__init__(
            graph.signature,
            {
                "backend": "onnxruntime",
                "version": onnxruntime.__version__,
                "device": f"cpu ({PROVIDER})",
                "threads": str(threads),
                "precision": graph.precision,
                "graph": graph.digest,
            },
        )
        self._session: Any = session
        self._input = session.get_inputs()[0].name
        self._output = session.get_outputs()[0].name

    def _run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        result: NDArray[Any] = self._session.run([self._output], {self._input: np.ascontiguousarray(tensor)})[0]
        return result

    def _release(self) -> None:
        self._session = None
