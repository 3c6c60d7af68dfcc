"""Read what an engine file's manifest says about it before any TensorRT object is made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.core.artefacts import file_digest
from unblur.core.errors import InputError
from unblur.engines.tensorrt.manifest import companions, read_manifest
from unblur.engines.tensorrt.product import ProductName
from unblur.images.contract import PixelContract


@dataclass(frozen=True)
class EngineFile:
    """A compiled engine: which product made it, its pixels, its SHA-256, and its manifest as it stands.

    `precision` is the graph's, such as "fp16"; `checkpoint` the SHA-256 of the weights and `channel_order` what
    they were trained with, None where nobody said.
    """

    path: Path
    digest: str
    product: ProductName
    contract: PixelContract
    precision: str
    checkpoint: str | None
    manifest: dict[str, Any]
    channel_order: str | None = None


def read_engine(path: Path) -> EngineFile:
    """Read the manifest beside an engine file and hold the file to it.

    Raises InputError for a file that is missing, without a manifest, or not the one that the manifest describes
    (truncated, or replaced), or beside another graph than it was compiled from, each with the way to build it again.
    """
    if not path.is_file():
        raise InputError(f"Engine {path} does not exist; build it with `unblur build`.")
    manifest = read_manifest(path, "product", "version", "precision", "pixel_contract", "engine_sha256")
    product, stated = manifest["product"], str(manifest["engine_sha256"])
    if product not in ("tensorrt", "tensorrt-rtx"):
        raise InputError(f"Engine {path} is of the product {product!r}, which unblur does not know; build it again.")
    try:
        contract = PixelContract.from_json(json.dumps(manifest["pixel_contract"]))
    except InputError as error:
        raise InputError(f"The manifest of {path}: {error}") from error
    digest = file_digest(path)
    if digest != stated:
        raise InputError(
            f"{path} is truncated or was replaced: its SHA-256 is {digest[:12]}..., its manifest says "
            f"{stated[:12]}...; build it again with `unblur build --rebuild {path}`."
        )
    graph = companions(path)[0]
    if manifest.get("graph_sha256") and graph.is_file() and file_digest(graph) != manifest["graph_sha256"]:
        raise InputError(
            f"{graph} is not the graph that {path} was compiled from; put that one back, or build it again with "
            f"`unblur build --rebuild {path}`."
        )
    checkpoint, order = manifest.get("checkpoint_sha256"), manifest.get("channel_order")
    return EngineFile(path, digest, product, contract, str(manifest["precision"]), checkpoint, manifest, order)
