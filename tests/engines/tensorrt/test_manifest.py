"""Whether an engine may run here, by its manifest alone: one sentence, with the cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from mutants import byte_mutants, json_mutants
from pixels import BGR
from test_damaged_graphs import convolution

from unblur.building import engine as build
from unblur.building.examine import examine_engine
from unblur.core.artefacts import file_digest
from unblur.core.errors import InputError
from unblur.engines.tensorrt import reproduce
from unblur.engines.tensorrt.file import read_engine
from unblur.engines.tensorrt.manifest import check_files, check_manifest, companions, read_manifest
from unblur.engines.tensorrt.product import Device, Product
from unblur.engines.xray.gpus import gpus_of
from unblur.engines.xray.report import make_report
from unblur.engines.xray.text import describe

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


def test_an_engine_beside_another_graph_is_refused_before_anything_is_asked_of_the_machine(tmp_path: Path) -> None:
    engine = tmp_path / "a.engine"
    graph, path = companions(engine)
    engine.write_bytes(b"engine")
    graph.write_bytes(b"graph")
    told = manifest(RTX, "portable") | {"precision": "fp16", "pixel_contract": json.loads(BGR.to_json())}
    told |= {"engine_sha256": file_digest(engine), "graph_sha256": file_digest(graph)}
    path.write_text(json.dumps(told))
    assert read_engine(engine).precision == "fp16"
    graph.write_bytes(b"another")
    with pytest.raises(InputError, match=r"a\.engine\.onnx is not the graph that .*a\.engine was compiled from"):
        read_engine(engine)
    graph.unlink()  # an engine that was moved without it runs all the same
    read_engine(engine)


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


def whole(folder: Path) -> tuple[Path, dict[str, Any]]:
    """An engine's three files, made by hand, and its manifest."""
    engine = folder / "a.engine"
    graph, path = companions(engine)
    engine.write_bytes(b"engine")
    onnx.save(convolution(), graph)
    size = [16, 24]
    kernel = {
        "name": "conv", "kind": "correlation", "bytes_moved": 1, "inputs": ["x Float 1x3x16x24"], "constants": [],
        "outputs": ["y Float 1x3x16x24"], "nodes": ["conv"], "runs_in": "Float",
    }  # fmt: skip
    manifest = {
        "product": "tensorrt-rtx", "version": "1.7.1.116", "precision": "fp32", "network": "tiny",
        "recipe": {"precision": None, "flavor": "tensorrt-rtx", "targets": ["sm89"], "profiles": [],
                   "optimization_level": None, "builds": 1},
        "gpu": None, "checkpoint_sha256": "a" * 64, "calibration": None, "height": 16, "width": 24,
        "pixel_contract": json.loads(BGR.to_json()), "engine_bytes": 6, "build_seconds": 1.5, "builds": [],
        "profiles": [{"min": size, "opt": size, "max": size}], "seen_at": None, "chosen_build": 0, "warnings": [],
        "targets": {"sm89": {"kernels": 1, "bytes_moved": 9216, "activation_bytes": 0, "each_kernel": [kernel],
                             "convolutions_run_in": {"Float": 1}}},
        "engine_sha256": file_digest(engine), "graph_sha256": file_digest(graph),
    }  # fmt: skip
    path.write_text(json.dumps(manifest))
    return engine, manifest


def use(engine: Path, folder: Path) -> None:
    """Everything that reads a manifest without a GPU."""
    read_engine(engine)
    check_manifest(read_manifest(engine, "product", "version", "targets"), engine, RTX, ADA)
    found = examine_engine(engine)
    for target, xray in found.xrays.items():
        describe(make_report(found.name, (found.product, found.version), found.precision, found.network, target, xray,
                             found.facts, gpus_of(target)), every_kernel=True)  # fmt: skip
    reproduce.scripts(reproduce._subject(engine, folder / "out"))
    build._recipe(read_manifest(engine, "recipe", "product", "precision"), engine)


def test_every_damaged_manifest_is_taken_or_refused(tmp_path: Path) -> None:
    engine, good = whole(tmp_path)
    use(engine, tmp_path)
    path = companions(engine)[1]
    texts = [json.dumps(mutant).encode() for mutant in json_mutants(good, 500)]
    texts += [*byte_mutants(json.dumps(good).encode(), 100), b"[" * 100_000, b'{"product":' * 100_000]
    outcomes = {"taken": 0, "refused": 0}
    for text in texts:
        path.write_bytes(text)
        try:
            use(engine, tmp_path)
            outcomes["taken"] += 1
        except InputError:
            outcomes["refused"] += 1
    assert all(outcomes.values()), outcomes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": ["sm89"]}, "targets = ['sm89']"),
        ({"targets": {"sm89": {"kernels": "many"}}}, "targets.sm89.kernels = 'many'"),
        ({"targets": {"rtx": {}}}, "targets.rtx.[key] = 'rtx'"),
        ({"height": 16.5}, "height = 16.5"),
        ({"height": None}, "one side of its size"),
        ({"checkpoint_sha256": 7}, "checkpoint_sha256 = 7"),
        ({"profiles": []}, "profiles = []"),
        ({"gpu": "NVIDIA L4"}, "gpu = 'NVIDIA L4'"),
        ({"version": "new"}, "version = 'new'"),
    ],
)
def test_a_manifest_is_checked_by_type(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    engine, good = whole(tmp_path)
    companions(engine)[1].write_text(json.dumps(good | change))
    with pytest.raises(InputError, match=r"a\.engine\.json is no manifest of an engine") as caught:
        read_manifest(engine)
    assert words in str(caught.value)
