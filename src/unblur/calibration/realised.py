"""Which convolutions a CPU backend really runs in 8 bits, asked of the backend after it has rewritten the graph.

A pair of QuantizeLinear and DequantizeLinear that a backend does not fuse costs time and saves none: it rounds, and
the convolution runs in floating point. Neither backend says so by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx

from unblur.core.errors import BudgetError
from unblur.core.leftovers import temporary_folder
from unblur.engines.catalogue import pick_engine
from unblur.graphs.facts import read_facts
from unblur.graphs.rewrites.quantise import QuantisedGraph

Backend = Literal["onnxruntime", "openvino"]


@dataclass(frozen=True)
class Realised:
    """`in_8_bits`: convolutions whose kernel reads and multiplies integers; `macs_share`: their part of all
    multiply-accumulates of the graph, matrix products included, 0 to 1.

    `emulated`: convolutions that the graph asks for in 8 bits and that run in floating point.
    """

    backend: Backend
    in_8_bits: tuple[str, ...]
    emulated: tuple[str, ...]
    macs_share: float


def realised_on_cpu(graph: QuantisedGraph, backend: Backend) -> Realised:
    """Open the graph in a backend and read what became of its convolutions.

    Raises MissingRuntimeError without the backend's package, InputError for a graph the backend refuses.
    """
    reads = pick_engine(backend, "int8").realised
    assert reads is not None
    with temporary_folder() as folder:
        path = folder / "quantised.onnx"
        onnx.save(graph.model, path)
        integer = reads(path)
    facts = read_facts(graph.model, 0, 0)
    asked = {convolution.name for convolution in graph.convolutions}
    found = tuple(c.name for c in facts.convolutions if c.name in integer)
    share = sum(c.macs for c in facts.convolutions if c.name in integer) / facts.macs
    return Realised(backend, found, tuple(c.name for c in facts.convolutions if c.name in asked - integer), share)


def demand_8_bits(realised: Realised) -> None:
    """Raise BudgetError when a convolution that the graph asks for in 8 bits runs in floating point."""
    if realised.emulated:
        shown = "\n".join(f"  {name}" for name in realised.emulated[:10])
        more = f"\n  ... and {len(realised.emulated) - 10} more" if len(realised.emulated) > 10 else ""
        raise BudgetError(
            f"{realised.backend} would run {len(realised.emulated)} convolutions in floating point that the graph asks "
            f"for in 8 bits:\n{shown}{more}\nQuantise in the form {realised.backend!r}, or keep these convolutions."
        )
