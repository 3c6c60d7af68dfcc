"""What the inspector of a fake engine tells: a layer for each convolution of a graph, in the forms of 10 and 11."""

from __future__ import annotations

from typing import Any

import onnx

PHRASES = {"Float": "Row major linear FP32", "Half": "Channel major FP16 format where channel % 8 == 0"}


def inspected(model: onnx.ModelProto, kind: str, version: str, shape: tuple[int, ...] = (1, 8, 32, 32)) -> Any:
    """Every convolution as one layer that reads and writes `kind` in `shape`."""
    old = version.startswith("10")

    def tensor(name: str) -> dict[str, Any]:
        typed = {"Format/Datatype": PHRASES[kind]} if old else {"Format": "Channel major", "Datatype": kind}
        return {"Name": name, "Location": "Device", "Dimensions": list(shape), **typed}

    layers = [
        {
            "Name": f"__myl_{node.name}",
            "LayerType": "correlation",
            "Inputs": [tensor(node.input[0])],
            "Outputs": [tensor(node.output[0])],
            "TacticName": "sm89_xmma",
            "StreamId": 0,
            "Metadata": f"[ONNX Layer: {node.name}]",
        }
        for node in model.graph.node
        if node.op_type in ("Conv", "ConvTranspose")
    ]
    names = [value.name for value in (*model.graph.input, *model.graph.output)]
    if old:
        return {"Layers": layers, "Bindings": names}
    return {"Layers": layers, "I/O Tensors": [{"Name": name} for name in names]}
