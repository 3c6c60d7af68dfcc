"""Small ONNX graphs with a pixel contract, made by hand: the engines' tests need no exporter."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pixels import BGR

from unblur.graphs.metadata import CHECKPOINT_KEY
from unblur.graphs.rewrites.forms import OPENVINO
from unblur.graphs.rewrites.quantise import quantise
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.graphs.sessions import WrittenGraph
from unblur.images.contract import METADATA_KEY, PixelContract

FLOAT = BGR
BYTES = BGR.as_uint8()


def kernel() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weights (3, 3, 3, 3) and bias (3,) that are symmetric in nothing, with a result that reaches the clamp."""
    rng = np.random.default_rng(4)
    weight = rng.normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)
    for channel in range(3):
        weight[channel, channel, 1, 1] += 0.9
    return weight, rng.normal(0, 0.05, 3).astype(np.float32)


def write_graph(
    path: Path,
    size: tuple[int, int] | None,
    contract: PixelContract = FLOAT,
    metadata: bool = True,
    checkpoint: str | None = None,
) -> Path:
    """One convolution and a clamp; with the uint8 contract also everything that the contract puts into the graph.

    `checkpoint`: the digest that it says it was exported from.
    """
    weight, bias = kernel()
    constants = {
        "weight": weight,
        "bias": bias,
        "low": np.float32(-0.5),
        "high": np.float32(0.5),
        "full": np.float32(255),
        "half": np.float32(0.5),
        "flip": np.array([2, 1, 0], np.int64),
    }
    work = [
        helper.make_node("Conv", ["x", "weight", "bias"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["y", "low", "high"], ["z"]),
    ]
    height, width = size or ("H", "W")
    if contract.dtype == "uint8":
        kind, shape = TensorProto.UINT8, [1, height, width, 3]
        names = ("bytes", "restored")
        before = [
            helper.make_node("Cast", ["bytes"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["floats", "full"], ["unit"]),
            helper.make_node("Sub", ["unit", "half"], ["centred"]),
            helper.make_node("Transpose", ["centred"], ["rgb"], perm=[0, 3, 1, 2]),
            helper.make_node("Gather", ["rgb", "flip"], ["x"], axis=1),
        ]
        after = [
            helper.make_node("Gather", ["z", "flip"], ["z_rgb"], axis=1),
            helper.make_node("Transpose", ["z_rgb"], ["z_hwc"], perm=[0, 2, 3, 1]),
            helper.make_node("Add", ["z_hwc", "half"], ["z_unit"]),
            helper.make_node("Mul", ["z_unit", "full"], ["z_full"]),
            helper.make_node("Add", ["z_full", "half"], ["z_up"]),
            helper.make_node("Floor", ["z_up"], ["z_floor"]),
            helper.make_node("Cast", ["z_floor"], ["restored"], to=TensorProto.UINT8),
        ]
    else:
        kind, shape = TensorProto.FLOAT, [1, 3, height, width]
        names = ("x", "z")
        before, after = [], []
    graph = helper.make_graph(
        [*before, *work, *after],
        "tiny",
        [helper.make_tensor_value_info(names[0], kind, shape)],
        [helper.make_tensor_value_info(names[1], kind, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if metadata:
        said = {} if checkpoint is None else {CHECKPOINT_KEY: checkpoint}
        helper.set_model_props(model, {METADATA_KEY: contract.to_json(), **said})
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_quantised(path: Path, size: tuple[int, int] | None, checkpoint: str | None = None) -> Path:
    """The same graph with floats in and out, in 8 bits as OpenVINO wants them.

    A range of twice the pixels': their values then lie a quarter of a step off the grid, where no bfloat16 moves them
    to the next.
    """
    model = onnx.load(write_graph(path, size, checkpoint=checkpoint))
    for node in model.graph.node:  # by which rewrites plan
        node.name = node.output[0]
    onnx.save(quantise(model, Ranges("all", {"x": Range(-1.0, 1.0)}), OPENVINO, keep={}).model, path)
    return path


def run_quantised(tensor: np.ndarray[Any, Any], *_: object) -> np.ndarray[Any, Any]:
    """What `write_quantised` makes of a tensor as it is written."""
    with TemporaryDirectory() as folder:
        return WrittenGraph(onnx.load(write_quantised(Path(folder) / "8.onnx", None))).output(tensor)
