"""Whether an engine may run here, by its manifest alone: one sentence, with the cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unblur.core.artefacts import file_digest
from unblur.core.errors import InputError
from unblur.engines.tensorrt_manifest import check_files, check_manifest, companions, read_manifest
from unblur.engines.tensorrt_product import Device, Product

RTX = Product("tensorrt-rtx", None, "1.7.1.116")
TENSORRT = Product("tensorrt", None, "11.4.0.106")
ADA, BLACKWELL = Device("NVIDIA L4", "sm89", 1), Device("NVIDIA GeForce RTX 5090", "sm120", 1)
ENGINE = Path("a.engine")


def manifest(product: Product, *targets: str, gpu: Device | None = None) -> dict[str, Any]:
    return {
        "product": product.name,
        "version": product.version,
        "targets": {target: {} for target in targets},
        "gpu": {"name": gpu.name, "target": gpu.target, "memory_bytes": 1} if gpu else None,
        "checkpoint_sha256": "a" * 64,
    }


@pytest.mark.parametrize(
    ("made", "product", "device"),
    [
        (manifest(RTX, "portable"), RTX, ADA),
        (manifest(RTX, "portable"), RTX, Device("NVIDIA H200", "sm90", 1)),  # in no list: for the runtime to judge
        (manifest(RTX, "sm75", "sm89"), RTX, ADA),
        (manifest(RTX, "sm75"), RTX, None),
        (manifest(TENSORRT, "sm89", gpu=ADA), TENSORRT, ADA),
    ],
)
def test_at_home(made: dict[str, Any], product: Product, device: Device | None) -> None:
    check_manifest(made, ENGINE, product, device, "a" * 64)
    check_manifest(made, ENGINE, product, device)


@pytest.mark.parametrize(
    ("made", "product", "device", "words"),
    [
        (manifest(RTX, "portable"), TENSORRT, ADA, "was built by tensorrt-rtx, this is tensorrt; open it with"),
        (manifest(RTX, "portable"), Product("tensorrt-rtx", None, "1.8.0"), ADA,
         "built by tensorrt-rtx 1.7.1.116, this is 1.8.0; build it again: unblur build --rebuild a.engine"),
        (manifest(RTX, "portable"), RTX, Device("NVIDIA T4", "sm75", 1), "again with --target sm75"),
        (manifest(RTX, "sm86", "sm89"), RTX, BLACKWELL, "built for sm86, sm89, this is NVIDIA GeForce RTX 5090"),
        (manifest(TENSORRT, "sm89", gpu=ADA), TENSORRT, Device("NVIDIA L40S", "sm89", 1),
         r"built on NVIDIA L4 \(sm89\), this is NVIDIA L40S; build it again: unblur build --rebuild a.engine"),
    ],
)  # fmt: skip
def test_elsewhere(made: dict[str, Any], product: Product, device: Device, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_manifest(made, ENGINE, product, device)


def test_another_checkpoint() -> None:
    with pytest.raises(InputError, match=r"another checkpoint \(aaaaaaaaaaaa"):
        check_manifest(manifest(RTX, "portable"), ENGINE, RTX, None, "b" * 64)


def test_files_that_are_not_those_described(tmp_path: Path) -> None:
    engine = tmp_path / "a.engine"
    graph, path = companions(engine)
    engine.write_bytes(b"engine")
    graph.write_bytes(b"graph")
    told = {"engine_sha256": file_digest(engine), "graph_sha256": file_digest(graph)}
    check_files(engine, told)
    engine.write_bytes(b"engi")
    with pytest.raises(InputError, match=r"a\.engine is not the file"):
        check_files(engine, told)
    graph.unlink()
    engine.write_bytes(b"engine")
    with pytest.raises(InputError, match=r"a\.engine\.onnx does not exist"):
        check_files(engine, told)
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match="it has no product, version, precision, height, width, targets"):
        read_manifest(engine)
    assert read_manifest(engine, "graph_sha256") == told
