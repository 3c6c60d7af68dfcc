"""Keys follow from the engines' records and the devices: every field that changes demands a new key."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tiny_graph import write_graph

from unblur.core.artefacts import value_digest
from unblur.engines.catalogue import CATALOGUE, find_engine
from unblur.engines.named import NamedEngine, name_engine
from unblur.engines.tensorrt import product
from unblur.engines.tensorrt.file import EngineFile
from unblur.engines.tensorrt.product import Device, Driver
from unblur.images.contract import CONTRACTS
from unblur.pipeline import dependence, store
from unblur.pipeline.deblur.folder import task_key
from unblur.pipeline.dependence import Dependence, depends_on
from unblur.pipeline.store import Recipe

GPU = Driver(13000, (Device("RTX 4090", "sm89", 24), Device("H100", "sm90", 80)), "580.65.06")


def key(depends: Dependence) -> str:
    return Recipe("measurements", depends.spec, {}, depends.packages, machine_bound=True).key


def of(name: str, device: str = "") -> Dependence:
    return depends_on([name_engine(name)], device)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine whose driver can be replaced."""

    def install(driver: Driver) -> None:
        monkeypatch.setattr(product, "probe_driver", lambda _=None: driver)

    install(GPU)
    return install


@pytest.mark.parametrize("engine", ["tensorrt-fp16", "torch-cuda", "onnxruntime-cuda"])
def test_gpu_driver_and_device_are_in_the_key(engine: str, machine: Any) -> None:
    first, others = GPU.devices
    seen = {key(of(engine)), key(of(engine, "cuda:1"))}
    for driver in (
        replace(GPU, version="590.1"),
        replace(GPU, cuda_version=13010),
        *(
            replace(GPU, devices=(replace(first, **change), others))
            for change in ({"name": "RTX 5090"}, {"target": "sm120"}, {"memory_bytes": 32})
        ),
    ):
        machine(driver)
        seen.add(key(of(engine)))
    assert len(seen) == 7


def test_another_gpu_does_not_touch_what_ran_on_a_cpu(machine: Any) -> None:
    before = key(of("openvino"))
    machine(replace(GPU, version="590.1"))
    assert key(of("openvino")) == before


def test_without_a_gpu_there_is_a_key_too() -> None:
    assert of("tensorrt").spec["gpu"] is None
    assert key(of("tensorrt")) != key(of("tensorrt-fp16"))


@pytest.mark.parametrize(
    "change",
    [{"name": "other"}, {"backend": "other"}, {"precision": "bf16"}, {"runs": "checkpoint"}, {"device": "cuda"},
     {"form": "onnxruntime"}, {"packages": frozenset({"numpy"})}],
)  # fmt: skip
def test_every_field_of_the_record_is_in_the_key(change: dict[str, Any], machine: Any) -> None:
    engine = find_engine("openvino")
    before = depends_on([NamedEngine(engine)])
    after = depends_on([NamedEngine(replace(engine, **change))])
    assert key(before) != key(after)


def test_the_manifest_of_an_engine_file_is_in_the_key(machine: Any) -> None:
    """It says the pixels, and may be edited beside the same engine."""
    told = EngineFile(
        Path("a.engine"), "a" * 64, "tensorrt", CONTRACTS["rgb01"], "fp16", None, {"pixel_contract": "rgb"}
    )
    other = replace(told, manifest={"pixel_contract": "bgr"})
    engine = find_engine("tensorrt-fp16")
    keys = {key(depends_on([NamedEngine(engine, told.path, file)])) for file in (told, told, other)}
    assert len(keys) == 2


def test_the_code_of_an_added_engine_is_in_the_key() -> None:
    """Its record may be as it was, and it computes something else."""
    theirs = replace(find_engine("openvino"), open=write_graph)
    told = depends_on([NamedEngine(theirs)]).spec["engines"][0]["code"]
    assert told == sha256(Path(str(write_graph.__code__.co_filename)).read_bytes()).hexdigest()
    assert of("openvino").spec["engines"][0]["code"] == ""  # the package's own digest holds it


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_versions_of_an_engines_packages_are_in_the_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, picture = key(of(name)), task_key(b"", "", of(name))
    versions = store.package_versions()
    for package in sorted(CATALOGUE[name].packages):
        changed = {**versions, package: "99.9"}
        monkeypatch.setattr(store, "package_versions", lambda changed=changed: changed)
        assert key(of(name)) != before
        assert task_key(b"", "", of(name)) != picture
        monkeypatch.undo()
    assert key(of(name)) == before


def test_the_version_of_a_module_without_a_distribution_is_in_the_key(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a system's package of TensorRT."""

    class Module:
        __version__ = "10.16"

    monkeypatch.setattr(dependence.importlib.util, "find_spec", lambda name: name == "tensorrt")
    monkeypatch.setattr(dependence.importlib, "import_module", lambda _: Module)
    before = key(of("tensorrt"))
    Module.__version__ = "11.4"
    assert key(of("tensorrt")) != before


def test_a_named_file_is_in_the_key(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "a.onnx", (8, 8))
    before = key(of(str(path)))
    write_graph(tmp_path / "a.onnx", (8, 10))
    assert key(of(str(path))) != before
    assert key(of(f"onnxruntime:{path}")) != key(of(f"openvino:{path}"))


def test_values_are_json() -> None:
    assert value_digest(depends_on([name_engine(name) for name in CATALOGUE]).spec)
