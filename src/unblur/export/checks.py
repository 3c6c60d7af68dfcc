"""Proof that a written graph is the network: checked, inferred, and run against PyTorch in float64.

The tolerance is what PyTorch itself loses: the network's own float32 error against float64, times MARGIN, and
at least FLOOR. A graph is not asked to be better than the network it came from, nor allowed to be much worse.

What holds in one backend need not hold in another: a proof names the backend, and `prove` asks all that are installed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from unblur.core.bounds import Size
from unblur.core.console import Progress
from unblur.core.errors import BudgetError
from unblur.engines.catalogue import open_engine
from unblur.engines.runner import Runner
from unblur.export.axes import LENGTHS, Backend, installed_backends, prove_axes
from unblur.export.trace import PROBE
from unblur.graphs.sessions import WrittenGraph, as_backend
from unblur.images.contract import Frame, PixelContract
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import Checkpoint
from unblur.networks.size import count_macs

FIRST_BACKEND: Backend = "onnxruntime"
"""Where a graph runs before it gets its name, whatever is installed beside it."""

MARGIN = 8.0
"""Observed over sizes 16 to 574, trained and random weights: graph error 0.4 to 2.6 times PyTorch's float32 error."""

FLOOR = 1e-6
"""In pixels of a range of 1: 1/4000 of a byte. Below it float32 summation order is all that is seen."""

WHOLE_MACS = 350e9
"""Up to this many multiply-accumulates the whole graph runs against float64, which takes some 10 s."""

FLOAT32_TOLERANCE = 2e-5
"""Where the reference is float32 itself; both round, and what they round differs."""

ALGEBRA_TOLERANCE = 1e-12
"""Form against network, both float64; observed at most 2e-15."""

QUICK = 4
"""So many of a family's sizes are proved at every export of a graph of every size, and all of them by `--prove`."""


@dataclass(frozen=True)
class Proof:
    """One comparison: of what, run in what, where, against what, and how far apart the worst pixel was (in pixels of a
    range of 1). A size that counts for a proof of all lengths is the longest.
    """

    subject: str
    backend: str
    height: int
    width: int
    frame: str
    reference: str
    worst: float
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_graph(
    path: Path,
    checkpoint: Checkpoint,
    contract: PixelContract,
    size: Size | None,
    *,
    prove: bool,
    progress: Progress,
) -> list[Proof]:
    """Check a graph and compare it with its network, at its size or (size None) at several.

    It runs in ONNX Runtime; with `prove` in every backend that is installed, and there at every length as far as only
    the size counts. Raises onnx.checker.ValidationError for an invalid graph, BudgetError when a pixel is over the
    tolerance, MissingRuntimeError without onnxruntime.
    """
    onnx.checker.check_model(str(path), full_check=True)
    network, exact = checkpoint.network, checkpoint.exact
    double = copy.deepcopy(network).double()
    quick = exact.sizes[:QUICK]
    proofs = []
    if size is not None and count_macs(network, size) > WHOLE_MACS:
        # float64 convolutions of a whole large map take minutes and tens of gigabytes in PyTorch.
        sizes = [size] if prove else []
        algebra = list(exact.sizes) if prove else [max(quick, key=math.prod)]
        proofs.append(_probe(path, checkpoint, contract, size))
    else:
        sizes = [size] if size else list(exact.sizes if prove else quick)
        algebra = list(exact.sizes) if prove and size else []
    for height, width in progress.track(algebra, "proving the algebra", len(algebra)):
        proofs.append(_algebra(checkpoint, double, contract.padded_size(height, width)))
    backends = installed_backends() if prove else (FIRST_BACKEND,)
    if prove and size is None and exact.derived is not None:
        model = onnx.load(path)
        for backend in progress.track(backends, "proving what depends on the size, at every length", len(backends)):
            prove_axes(model, exact.derived, backend, LENGTHS)
            proofs.append(Proof("index", backend, LENGTHS[-1], LENGTHS[-1], "any frame", "every length", 0.0, FLOOR))
    whole = len(sizes) > 0 and count_macs(network, sizes[0]) <= WHOLE_MACS
    with ExitStack() as stack:
        threads = torch.get_num_threads()
        runners: dict[str, Runner] = {
            name: stack.enter_context(open_engine(name, checkpoint, path, threads)) for name in backends if sizes
        }
        for height, width in progress.track(sizes, "running the graph against the network", len(sizes)):
            for name, frame in _frames(height, width).items():
                proofs += _compare(runners, network, double if whole else None, checkpoint.contract, name, frame)
    return proofs


@cache
def _picture() -> Frame:
    return synthetic_pair(0, 256, 256, "heldout")[0]


def _frames(height: int, width: int) -> dict[str, Frame]:
    """A blurred photograph, mirrored to the size, and noise of all byte values."""
    side = _picture().shape[0]
    pad = ((0, max(0, height - side)), (0, max(0, width - side)), (0, 0))
    picture = np.pad(_picture(), pad, mode="reflect")[:height, :width]
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {"photograph": np.ascontiguousarray(picture), "noise": noise}


def _compare(
    runners: Mapping[str, Runner],
    network: nn.Module,
    double: nn.Module | None,
    network_contract: PixelContract,
    name: str,
    frame: Frame,
) -> list[Proof]:
    """Graph in each backend against network on one frame. Without `double` the reference is the float32 network."""
    height, width = frame.shape[:2]
    low, high = network_contract.low, network_contract.high
    x = torch.from_numpy(network_contract.encode(frame))
    with torch.inference_mode():
        single = network(x).clamp(low, high).double()
        reference = single if double is None else _exact(double, frame, network_contract).clamp(low, high)
    span = high - low
    own = float((single - reference).abs().max()) / span
    tolerance = max(FLOOR, MARGIN * own) if double is not None else FLOAT32_TOLERANCE
    expected = ((reference - low) / span)[0].permute(1, 2, 0).numpy()[:height, :width]
    if network_contract.channel_order == "bgr":
        expected = expected[..., ::-1]
    reference_name = "float64" if double is not None else "float32"
    proofs = []
    for backend, runner in runners.items():
        contract = runner.signature.contract
        got = runner.run(contract.encode(frame))
        if contract.dtype == "uint8":
            # A byte is right when the exact value rounds to it, give or take the tolerance.
            difference = np.maximum(np.abs(got[0, :height, :width] / 255.0 - expected) - 0.5 / 255.0, 0.0)
        else:
            picture = got[0].transpose(1, 2, 0)[:height, :width].astype(np.float64)
            picture = (picture - contract.low) / (contract.high - contract.low)
            difference = np.abs((picture[..., ::-1] if contract.channel_order == "bgr" else picture) - expected)
        proofs.append(_judge("graph", backend, difference, (height, width), name, reference_name, tolerance))
    return proofs


def _exact(double: nn.Module, frame: Frame, contract: PixelContract) -> torch.Tensor:
    # From the same float32 pixels: what is judged is the network, not the conversion.
    out: torch.Tensor = double(torch.from_numpy(contract.encode(frame)).double())
    return out


def _algebra(checkpoint: Checkpoint, double: nn.Module, size: Size) -> Proof:
    """The export form against the network, both in float64: every weight, every bin, no rounding to hide behind."""
    form = checkpoint.exact.form(checkpoint.network, size, False).eval()
    low, high = checkpoint.contract.low, checkpoint.contract.high
    x = torch.rand((1, 3, *size), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x * (high - low) + low
    with torch.inference_mode():
        expected = double(x)
        difference = (form(x)[0] - expected).abs()[0].permute(1, 2, 0).numpy()
        scale = max(1.0, float(expected.abs().max()))
    return _judge("algebra", "torch", difference, size, "noise", "float64", ALGEBRA_TOLERANCE * scale)


def _probe(path: Path, checkpoint: Checkpoint, contract: PixelContract, size: Size) -> Proof:
    """The graph at its full size as far as the family's probe, against the float32 network.

    That is everything that depends on the size; the weights of all layers are compared one by one.
    """
    model, exact = onnx.load(path), checkpoint.exact
    flip = contract.channel_order != checkpoint.contract.channel_order
    _compare_weights(model, exact.form(checkpoint.network, size, flip).float())
    frame = _frames(*size)["photograph"]
    with torch.inference_mode():
        expected = exact.probe(checkpoint.network, torch.from_numpy(checkpoint.contract.encode(frame))).numpy()
    graph = WrittenGraph(model, [PROBE], threads=torch.get_num_threads(), adjust=as_backend)
    got = graph.output(contract.encode(frame))
    scale = max(1.0, float(np.abs(expected).max()))
    difference = (np.abs(got - expected) / scale)[0].transpose(1, 2, 0)
    return _judge("probe", FIRST_BACKEND, difference, size, "photograph", "float32", FLOAT32_TOLERANCE)


def _compare_weights(model: onnx.ModelProto, form: nn.Module) -> None:
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    names: dict[nn.Parameter, list[str]] = {}  # a weight that two layers share is stored once, under either name
    for name, weight in form.named_parameters(remove_duplicate=False):
        names.setdefault(weight, []).append(name)
    for weight, aliases in names.items():
        values = weight.detach().numpy()
        found = [stored[name] for name in aliases if name in stored]
        if found:
            same = all(np.array_equal(value, values) for value in found)
        else:  # what the exporter folded has a name of its own, and a linear layer's weight is stored transposed
            same = any(np.array_equal(value, each) for value in stored.values() for each in (values, values.T))
        if not same:
            raise BudgetError(f"The graph's weight {aliases[0]} is not the network's; nothing was written.")


def _judge(
    subject: str, backend: str, difference: NDArray[np.float64], size: tuple[int, int], frame: str, reference: str,
    tolerance: float,
) -> Proof:  # fmt: skip
    worst = float(difference.max())
    # NaN compares false: `not <=` refuses it too.
    if not worst <= tolerance:
        row, column, channel = np.unravel_index(int(difference.argmax()), difference.shape)
        raise BudgetError(
            f"The {subject} in {backend} is not the network: at {size[0]}x{size[1]} on {frame} it is {worst:.2e} from "
            f"PyTorch in {reference} (tolerance {tolerance:.1e}), worst at row {row}, column {column}, "
            f"channel {channel}; nothing was written."
        )
    return Proof(subject, backend, *size, frame, reference, worst, tolerance)
