"""Read what an engine file's manifest says about it before any TensorRT object is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from unblur.core.artefacts import file_digest
from unblur.core.errors import InputError
from unblur.engines.tensorrt_product import ProductName
from unblur.images.contract import PixelContract


@dataclass(frozen=True)
class EngineFile:
    """A compiled engine: which product and version made it, its pixels, its SHA-256, and its manifest as it stands.

    `precision` is the graph's, such as "fp16"; `checkpoint` the SHA-256 of the weights, None where nobody said.
    """

    path: Path
    digest: str
    product: ProductName
    version: str
    contract: PixelContract
    precision: str
    checkpoint: str | None
    manifest: Mapping[str, Any]


def manifest_of(engine: Path) -> Path:
    """Where the manifest of an engine file lies."""
    return engine.with_name(engine.name + ".json")


def read_engine(path: Path) -> EngineFile:
    """Read the manifest beside an engine file and hold the file to it.

    Raises InputError for a file that is missing, without a manifest, or not the one that the manifest describes
    (truncated, or replaced), each with the way to build it again.
    """
    if not path.is_file():
        raise InputError(f"Engine {path} does not exist; build it with `unblur build`.")
    beside = manifest_of(path)
    try:
        manifest = json.loads(beside.read_text())
        stated, product = str(manifest["engine_sha256"]), manifest["product"]
        contract = PixelContract.from_json(json.dumps(manifest["pixel_contract"]))
        version, precision = str(manifest["version"]), str(manifest["precision"])
    except FileNotFoundError as error:
        raise InputError(
            f"Engine {path} has no manifest {beside.name} beside it, so nobody knows its pixels; build it again with "
            "`unblur build`."
        ) from error
    except InputError as error:
        raise InputError(f"{beside}: {error}") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{beside} is no manifest of an engine ({error!r}); build the engine again.") from error
    if product not in ("tensorrt", "tensorrt-rtx"):
        raise InputError(f"{beside} is of the product {product!r}, which unblur does not know; build it again.")
    digest = file_digest(path)
    if digest != stated:
        raise InputError(
            f"{path} is truncated or was replaced: its SHA-256 is {digest[:12]}..., its manifest says "
            f"{stated[:12]}...; build it again with `unblur build --rebuild {path}`."
        )
    checkpoint = manifest.get("checkpoint_sha256")
    return EngineFile(path, digest, cast(ProductName, product), version, contract, precision, checkpoint, manifest)
