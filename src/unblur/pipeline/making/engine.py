"""Compiled engines out of the store: one per checkpoint, product, precision and sizes, built when they are run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from unblur.building.engine import BuildOptions, build_engine
from unblur.building.precision import Precision
from unblur.core.bounds import Size
from unblur.core.console import SILENT, Progress
from unblur.core.errors import MissingRuntimeError
from unblur.engines.catalogue import find_engine
from unblur.engines.named import NamedEngine
from unblur.engines.tensorrt.product import ProductName, find_device, open_product
from unblur.engines.tensorrt.profiles import derive_profiles
from unblur.engines.tensorrt.targets import CURRENT, TARGETS
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.dependence import depends_on
from unblur.pipeline.job import BUNDLED, Calibration, Source
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.scored_engine import build_quantised, smaller_graph
from unblur.pipeline.store import Recipe, Store


def stored_engine(
    name: str, store: Store, checkpoint: Checkpoint, sizes: Mapping[Size, int], progress: Progress = SILENT,
    calibration: Calibration = BUNDLED, gpu: int = 0,
) -> Path:  # fmt: skip
    """The engine file for `name` of the catalogue, such as "tensorrt-rtx-fp16", and frames of these padded sizes.

    `gpu`: the number of the one it shall run on. `sizes`: how many frames of each (height, width). One size gets an
    engine of its own, several one with profiles.
    It takes and gives bytes, so that those cross the bus. Raises MissingRuntimeError where the product, the driver
    or the GPU is missing, before any work; and as `build_engine` and, for 8 bits, `build_quantised`.
    """
    engine = find_engine(name)
    product_name = cast(ProductName, engine.backend)
    product = open_product(product_name)
    device = find_device(gpu, product)
    if product_name == "tensorrt" and device.name != find_device(0, product).name:
        raise MissingRuntimeError(
            f"TensorRT builds on the first GPU, which is another kind than cuda:{gpu} ({device.name}); run the same "
            f"command with CUDA_VISIBLE_DEVICES={gpu} and without --device."
        )
    # A portable engine runs on families that the compiler cannot name.
    here = CURRENT if gpu == 0 else device.target
    targets = (here,) if product_name == "tensorrt-rtx" and device.target in TARGETS else ()
    only = next(iter(sizes)) if len(sizes) == 1 else None
    graph = stored_graph(store, checkpoint, only, pixels="uint8", progress=progress)
    profiles = () if only else derive_profiles(sizes)
    options = BuildOptions(cast(Precision, engine.precision), product_name, targets, profiles)
    recipe = Recipe(
        "engines",
        options.to_json()
        | depends_on([NamedEngine(engine)], f"cuda:{gpu}").spec
        | ({"calibration": calibration.to_json()} if engine.calibrated else {}),
        {"graph": graph.digest},
        engine.packages,
        machine_bound=True,
    )
    where = f"{only[0]}x{only[1]}" if only else f"{len(profiles)}-profiles"
    label = f"{checkpoint.name}-{where}-{name}"

    def write(folder: Path) -> None:
        progress.note(f"building {label}: once, then it is kept")
        output = folder / f"{label}.engine"
        source = Source(checkpoint, only, pixels="uint8")
        caches = store.root / recipe.stage  # not the folder of this engine: what was timed is for the next one, too
        if engine.calibrated:
            build_quantised(store, source, output, options, calibration, progress=progress, caches=caches)
        else:
            smaller = smaller_graph(store, source, progress)
            build_engine(graph.path, output, options, progress, smaller=smaller, caches=caches)

    return next(store.make(recipe, label, write).path.glob("*.engine"))
