"""Checkpoint -> ONNX graph, exact and proven, or nothing under that name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unblur.core.artefacts import atomic_path, file_digest, json_text
from unblur.core.bounds import Size, check_pixels
from unblur.core.console import SILENT, Progress
from unblur.core.errors import InputError
from unblur.core.provenance import package_versions
from unblur.export.checks import Proof, check_graph
from unblur.export.trace import trace
from unblur.graphs.metadata import CHECKPOINT_KEY, NETWORK_KEY, ORDER_KEY, SMALLEST_KEY, add_properties
from unblur.images.contract import METADATA_KEY, PixelContract, Pixels
from unblur.networks.checkpoints import Checkpoint

OPSETS = (19, 20, 21)


@dataclass(frozen=True)
class ExportedGraph:
    """A written graph: its file, SHA-256, pixel contract, number of nodes, and what was proved of it."""

    path: Path
    digest: str
    contract: PixelContract
    nodes: int
    proofs: tuple[Proof, ...]


def export_graph(
    checkpoint: Checkpoint,
    output: Path,
    *,
    height: int | None = None,
    width: int | None = None,
    dynamic: bool = False,
    pixels: Pixels = "float",
    opset: int = 20,
    prove: bool = False,
    check: bool = True,
    progress: Progress = SILENT,
) -> ExportedGraph:
    """Write the exact graph of a checkpoint's network, for one size or (`dynamic`) for every one that it takes.

    The graph is written beside its final name, checked, run in ONNX Runtime against the network, and renamed
    only when it is right. `prove` adds a sweep over sizes; `check` False compares nothing, for a graph that others are
    judged by and nobody is given. Raises InputError for a size, opset or path that
    cannot be, BudgetError when the graph and the network differ, naming the worst pixel.
    """
    family, smallest = checkpoint.recognised.family, checkpoint.exact.smallest
    size = None if dynamic else _size(checkpoint.contract, smallest, height, width)
    if dynamic and (height is not None or width is not None):
        raise InputError("A dynamic graph takes every size; leave out --height and --width, or --dynamic.")
    if opset not in OPSETS:
        raise InputError(f"Opset {opset} is not supported; use one of {', '.join(map(str, OPSETS))}.")
    contract = checkpoint.contract.as_pixels(pixels)
    form = checkpoint.form(size, contract)
    at = "every size" if size is None else f"{size[0]}x{size[1]}"
    with progress.stage(f"tracing {checkpoint.name} at {at}"):
        model = trace(form, size, contract.multiple, smallest, opset, family.part_of)
    metadata = {
        METADATA_KEY: contract.to_json(),
        NETWORK_KEY: checkpoint.name,
        CHECKPOINT_KEY: checkpoint.digest,
        ORDER_KEY: checkpoint.contract.channel_order,
        SMALLEST_KEY: str(smallest),
        "unblur.size": "dynamic" if size is None else f"{size[0]}x{size[1]}",
        "unblur.opset": str(opset),
        "unblur.tools": json_text(package_versions(), indent=None),
    }
    add_properties(model, metadata)
    model.producer_name, model.producer_version = "unblur", package_versions().get("unblur", "")
    with atomic_path(output) as temporary:
        temporary.write_bytes(model.SerializeToString())
        proofs = check_graph(temporary, checkpoint, contract, size, prove=prove, progress=progress) if check else []
    progress.note(_proved(proofs))
    return ExportedGraph(output, file_digest(output), contract, len(model.graph.node), tuple(proofs))


def _proved(proofs: Sequence[Proof]) -> str:
    worst = max(proofs, key=lambda proof: proof.worst / proof.tolerance, default=None)
    if worst is None:
        return "nothing was compared with PyTorch"
    ran = sorted({proof.backend for proof in proofs} - {"torch"})
    return (
        f"{len(proofs)} comparison(s) with PyTorch hold, of the graph in {' and '.join(ran)}; the tightest, "
        f"{worst.subject} in {worst.backend} at {worst.height}x{worst.width} on {worst.frame} against "
        f"{worst.reference}: worst pixel {worst.worst:.1e}, tolerance {worst.tolerance:.1e}"
    )


def _size(contract: PixelContract, smallest: int, height: int | None, width: int | None) -> Size:
    if height is None or width is None:
        raise InputError("The graph's size is missing; give --height and --width, or --dynamic for every size.")
    for name, length in (("height", height), ("width", width)):
        if length < smallest:
            raise InputError(f"{name} is {length}; this network's graph takes heights and widths from {smallest} on.")
    try:
        check_pixels(height, width)
    except ValueError as error:
        raise InputError(f"{error}; export a smaller size.") from error
    padded = contract.padded_size(height, width)
    if padded != (height, width):
        raise InputError(
            f"{height}x{width} is no size of a graph: the network takes multiples of {contract.multiple}. "
            f"Export {padded[0]}x{padded[1]}; such frames are padded to it right and bottom, and cropped."
        )
    return padded
