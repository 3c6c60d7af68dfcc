"""Compiled engines out of the store: one per checkpoint, product, precision and sizes, built when they are run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from unblur.building.engine import BuildOptions, build_engine
from unblur.building.precision import Precision
from unblur.core.console import SILENT, Progress
from unblur.engines.tensorrt.product import ProductName, open_product, probe_driver
from unblur.engines.tensorrt.profiles import derive_profiles
from unblur.engines.tensorrt.targets import CURRENT, TARGETS
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.job import BUNDLED, Calibration, Size, Source
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.scored_engine import build_quantised, smaller_graph
from unblur.pipeline.store import Recipe, Store

CALIBRATED = ("int8", "fp8")


def stored_engine(
    name: str, store: Store, checkpoint: Checkpoint, sizes: Mapping[Size, int], progress: Progress = SILENT,
    calibration: Calibration = BUNDLED,
) -> Path:  # fmt: skip
    """The engine file for `name` of the catalogue, such as "tensorrt-rtx-fp16", and frames of these padded sizes.

    `sizes`: how many frames of each (height, width). One size gets an engine of its own, several one with profiles.
    It takes and gives bytes, so that those cross the bus. Raises MissingRuntimeError where the product, the driver
    or the GPU is missing, before any work; and as `build_engine` and, for 8 bits, `build_quantised`.
    """
    product_name, precision = _parts(name)
    product = open_product(product_name)
    device = probe_driver(product).devices[0]
    # A portable engine runs on families that the compiler cannot name.
    targets = (CURRENT,) if product_name == "tensorrt-rtx" and device.target in TARGETS else ()
    only = next(iter(sizes)) if len(sizes) == 1 else None
    graph = stored_graph(store, checkpoint, only, pixels="uint8", progress=progress)
    profiles = () if only else derive_profiles(sizes)
    options = BuildOptions(precision, product_name, targets, profiles)
    recipe = Recipe(
        "engines",
        options.to_json()
        | {"gpu": [device.name, device.target]}
        | ({"calibration": calibration.to_json()} if precision in CALIBRATED else {}),
        {"graph": graph.digest},
        frozenset({"tensorrt"} if product_name == "tensorrt" else {"tensorrt-rtx-cu13", "tensorrt-rtx-cu12"}),
        machine_bound=True,
    )
    where = f"{only[0]}x{only[1]}" if only else f"{len(profiles)}-profiles"
    label = f"{checkpoint.name}-{where}-{name}"

    def write(folder: Path) -> None:
        progress.note(f"building {label}: once, then it is kept")
        output = folder / f"{label}.engine"
        source = Source(checkpoint, only, pixels="uint8")
        if precision in CALIBRATED:
            build_quantised(store, source, output, options, calibration, progress=progress)
        else:
            smaller = smaller_graph(store, source, progress)
            build_engine(graph.path, output, options, progress, smaller=smaller)

    return next(store.make(recipe, label, write).path.glob("*.engine"))


def _parts(name: str) -> tuple[ProductName, Precision]:
    """ "tensorrt-rtx-fp16" -> ("tensorrt-rtx", "fp16"); without a precision it is fp32."""
    for precision in ("fp16", "bf16", *CALIBRATED):
        if name.endswith(f"-{precision}"):
            return cast(ProductName, name.removesuffix(f"-{precision}")), cast(Precision, precision)
    return cast(ProductName, name), "fp32"
