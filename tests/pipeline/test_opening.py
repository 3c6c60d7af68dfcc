"""Which engine is taken, what it is given, and where things lie."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import unblur.pipeline.opening as module
from unblur.core.errors import InputError
from unblur.engines.catalogue import AUTO, CATALOGUE, choose_engine
from unblur.engines.tensorrt import product
from unblur.engines.tensorrt.product import Device, Driver
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline import places
from unblur.pipeline.job import Calibration
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.store import Artefact, Recipe, Store


def test_each_engine_gets_the_file_it_runs_and_graphs_are_dynamic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def engine_graph(
        name: str, store: Store, checkpoint: Any, size: Any, calibration: Calibration, threads: Any, progress: Any
    ) -> Artefact:
        asked.append((name, store, checkpoint, size, calibration, threads))
        return Artefact(tmp_path / "g.onnx", "d" * 64, fresh=True)

    monkeypatch.setattr(module, "engine_graph", engine_graph)
    monkeypatch.setattr(module, "open_engine", lambda *arguments, device: arguments)
    store: Any = Store(tmp_path)
    weights: Any = object()
    sizes = {(16, 18): 2}
    built: list[tuple[Any, ...]] = []

    def stored_engine(*arguments: Any) -> Path:
        built.append(arguments[:4])
        return tmp_path / "e.engine"

    def unasked() -> Any:
        raise AssertionError("the sizes do not matter here")

    monkeypatch.setattr(module, "stored_engine", stored_engine)
    assert module.open_runner("torch-bf16", weights, store, unasked, threads=3) == ("torch-bf16", weights, None, 3)
    assert asked == []
    opened = module.open_runner("openvino-bf16", weights, store, unasked)
    assert opened == ("openvino-bf16", weights, tmp_path / "g.onnx", None)
    module.open_runner("openvino-int8", weights, store, unasked, threads=2, calibration=Calibration(algorithm="mse"))
    assert asked == [
        ("openvino-bf16", store, weights, None, Calibration(), None),
        ("openvino-int8", store, weights, None, Calibration(algorithm="mse"), 2),
    ]
    opened = module.open_runner("tensorrt-rtx-fp16", weights, store, lambda: sizes)
    assert opened == ("tensorrt-rtx-fp16", weights, tmp_path / "e.engine", None)
    assert built == [("tensorrt-rtx-fp16", store, weights, sizes)]
    with pytest.raises(InputError, match="did you mean 'openvino'"):
        module.open_runner("opnvino", weights, store, unasked)
    # Shape arithmetic of a graph of every size would fall to the CPU: each size gets a graph, as it comes.
    monkeypatch.setattr(module, "PerSizeRunner", lambda open_size, pixels, first: (pixels, first, open_size((20, 18))))
    weights = SimpleNamespace(contract="pixels")
    opened = module.open_runner("onnxruntime-cuda", weights, store, lambda: sizes)
    assert opened == ("pixels", (16, 18), ("onnxruntime-cuda", weights, tmp_path / "g.onnx", None))
    assert asked[-1][3] == (20, 18)


@pytest.mark.parametrize("prove", [True, False])
def test_a_proof_counts_for_the_backends_it_ran_in(prove: bool, tmp_path: Path, tiny: Checkpoint) -> None:
    made: list[Recipe] = []

    class Asked(Store):
        def make(self, recipe: Recipe, label: str, write: Any) -> Artefact:
            made.append(recipe)
            return Artefact(tmp_path / label, "d" * 64, fresh=True)

    stored_graph(Asked(tmp_path), tiny, None, prove=prove)
    assert "onnxruntime" in made[0].runtimes
    assert ("openvino" in made[0].runtimes) == prove


CPU = {"openvino", "onnxruntime", "torch"}
TENSORRT = {"tensorrt", "tensorrt_rtx"}


@pytest.mark.parametrize(
    ("installed", "target", "precision", "device", "expected"),
    [
        (CPU, "", None, "", "openvino"),
        (CPU, "", "fp32", "", "openvino"),
        ({"onnxruntime", "torch"}, "", "fp32", "", "onnxruntime"),
        ({"torch"}, "", "fp32", "", "torch"),
        (CPU, "", "bf16", "", "openvino-bf16"),
        ({"onnxruntime", "torch"}, "", "bf16", "", "torch-bf16"),
        (CPU, "", "int8", "", "openvino-int8"),
        ({"onnxruntime", "torch"}, "", "int8", "", "onnxruntime-int8"),
        (CPU | TENSORRT, "sm89", None, "", "tensorrt-fp16"),
        (CPU | {"tensorrt_rtx"}, "sm89", None, "", "tensorrt-rtx-fp16"),
        (CPU | {"tensorrt_rtx"}, "sm90", None, "", "torch-cuda-form-fp16-graph"),  # which that product does not run on
        (CPU, "sm89", None, "", "torch-cuda-form-fp16-graph"),
        (CPU, "sm89", "fp32", "", "torch-cuda"),
        (CPU, "sm89", None, "cpu", "openvino"),
        (CPU, "sm89", "fp32", "cuda:0", "torch-cuda"),
    ],
)
def test_auto_takes_the_first_that_runs_here(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], target: str, precision: str, device: str, expected: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in installed else None)
    if target:
        monkeypatch.setattr(product, "probe_driver", lambda _=None: Driver(13000, (Device("GPU", target, 1),)))
        monkeypatch.setattr("torch.version.cuda", "13.0")
    assert choose_engine("auto", precision, device) == expected


def test_auto_refuses_what_nothing_here_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"No engine in fp16 runs on this machine \(they are: tensorrt-fp16, "):
        choose_engine("auto", "fp16")
    monkeypatch.setattr(product, "probe_driver", lambda _=None: Driver(13000, (Device("GPU", "sm89", 1),)))
    monkeypatch.setattr("torch.version.cuda", "13.0")
    with pytest.raises(InputError, match="runs on cuda:1"):
        choose_engine("auto", None, "cuda:1")


def test_a_named_engine_is_taken_by_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert choose_engine("openvino", "fp32") == "openvino", "not installed is for the engine to say, exit code 4"
    assert choose_engine("openvino-int8") == choose_engine("openvino", "int8") == "openvino-int8"
    assert choose_engine("tensorrt-rtx", "fp16") == "tensorrt-rtx-fp16"
    assert choose_engine("torch-cuda-form-fp16-graph", "fp16") == "torch-cuda-form-fp16-graph"
    for name, precision, device, words in (
        ("onnxruntime", "bf16", "", "onnxruntime has no bf16; take --engine torch or openvino or torch-cuda or"),
        ("torch", "int8", "", "torch has no int8"),
        ("openvino-int8", "bf16", "", "openvino-int8 has no bf16, it is int8"),
        ("torch-compile", "bf16", "", "torch-compile has no bf16, it is fp32"),
        ("openvino", None, "cuda:1", "openvino runs on the CPU, not on cuda:1"),
        ("torch-cuda", None, "cpu", "torch-cuda runs on an NVIDIA GPU, not on cpu"),
        ("torch-cuda", None, "gpu", "Unknown device 'gpu'"),
        ("opnvino", None, "", "did you mean 'openvino'"),
    ):
        with pytest.raises(InputError, match=words):
            choose_engine(name, precision, device)


def test_auto_and_every_backend_are_in_the_catalogue() -> None:
    assert set(AUTO) <= set(CATALOGUE)
    assert len(set(AUTO)) == len(AUTO)
    pairs = {(engine.backend, engine.precision) for engine in CATALOGUE.values()}
    for backend, precision in pairs:
        chosen = CATALOGUE[choose_engine(backend, precision)]
        assert (chosen.backend, chosen.precision) == (backend, precision)
    assert {CATALOGUE[name].precision for name in AUTO} == {"fp32", "fp16", "bf16", "int8", "fp8"}


def test_places_inside_and_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project/deep").mkdir(parents=True)
    (tmp_path / "project/pipeline.toml").touch()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "project/deep")
    assert places.artefact_folder() == tmp_path / "project/artifacts"
    monkeypatch.setenv("UNBLUR_ARTIFACTS", str(tmp_path / "stated"))
    assert places.artefact_folder() == tmp_path / "project/artifacts", "a project has its own"
    monkeypatch.chdir(tmp_path)
    assert places.artefact_folder() == tmp_path / "stated"
    monkeypatch.delenv("UNBLUR_ARTIFACTS")
    checkout = Path(__file__).parents[2]
    assert places.artefact_folder() == checkout / "artifacts", "whose pipeline.toml is then in force"
    monkeypatch.setattr(places, "checkout", lambda: tmp_path / "site-packages")
    assert places.artefact_folder() == tmp_path / "cache/unblur"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert places.artefact_folder() == tmp_path / "home/.cache/unblur"


def test_the_projects_own_bundled_checkpoint_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/banet-nano.safetensors").touch()
    (tmp_path / "pipeline.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert places.bundled_checkpoint() == tmp_path / "checkpoints/banet-nano.safetensors"
    assert places.bundled_manifest() == Path(__file__).parents[2] / "calibration/manifests/synthetic-16.toml"
    monkeypatch.setattr(places, "BUNDLED_MANIFEST", Path("calibration/no.toml"))
    with pytest.raises(
        InputError, match=r"bundled calibration/no\.toml is neither in this project nor in .*--manifest"
    ):
        places.bundled_manifest()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG folders")
def test_a_user_without_a_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "checkout", lambda: tmp_path)
    monkeypatch.delenv("UNBLUR_ARTIFACTS")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(InputError, match="set HOME or XDG_CACHE_HOME"):
        places.artefact_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert places.artefact_folder() == tmp_path / "unblur"
