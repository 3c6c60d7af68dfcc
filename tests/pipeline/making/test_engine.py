"""An engine for the sizes at hand: built once, found the next time, refused where nothing could run it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_machine import FakeMachine

from unblur.core.errors import InputError, MissingRuntimeError
from unblur.engines.tensorrt import product
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.job import BUNDLED
from unblur.pipeline.making import engine
from unblur.pipeline.making import graph as graphs
from unblur.pipeline.making.engine import stored_engine
from unblur.pipeline.opening import make_candidate
from unblur.pipeline.store import Store, digest_of


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Calls of the builder, which here writes a file that looks like an engine."""
    calls: list[Any] = []

    def build_engine(graph: Path, output: Path, options: Any, progress: Any, *, smaller: Any, caches: Path) -> None:
        assert callable(smaller)
        assert caches == output.parents[1], "one folder for the timing caches of all engines"
        calls.append((graph.name, options))
        output.write_bytes(b"engine")

    machine = FakeMachine("tensorrt-rtx")
    monkeypatch.setattr(graphs, "export_graph", lambda _, path, **size: path.write_text(str(size)))
    monkeypatch.setattr(engine, "build_engine", build_engine)
    monkeypatch.setattr(engine, "open_product", lambda _: machine.product)
    driver = product.Driver(13000, (product.Device("Fake GPU", "sm89", 1),))
    monkeypatch.setattr(product, "probe_driver", lambda _=None: driver)
    return calls


def test_one_size_gets_an_engine_of_its_own_and_it_is_built_once(
    tiny: Checkpoint, tmp_path: Path, built: list[Any]
) -> None:
    store = Store(tmp_path)
    first = stored_engine("tensorrt-rtx-fp16", store, tiny, {(16, 18): 3})
    assert first.read_bytes() == b"engine"
    graph, options = built[0]
    assert "16x18-uint8" in graph
    assert (options.precision, options.flavor, options.targets, options.profiles) == (
        "fp16", "tensorrt-rtx", ("current",), (),
    )  # fmt: skip
    first.with_name(first.name + ".gpu-sm89-580.runtime-cache").write_bytes(b"left by running it")
    assert stored_engine("tensorrt-rtx-fp16", store, tiny, {(16, 18): 1}) == first
    assert stored_engine("tensorrt-rtx", store, tiny, {(16, 18): 1}) != first
    assert stored_engine("tensorrt-rtx-fp16", store, tiny, {(18, 16): 1}) != first
    assert len(built) == 3


def test_several_sizes_get_profiles(tiny: Checkpoint, tmp_path: Path, built: list[Any]) -> None:
    stored_engine("tensorrt-rtx-bf16", Store(tmp_path), tiny, {(16, 18): 1, (20, 18): 5})
    graph, options = built[0]
    assert "dynamic-uint8" in graph
    assert [profile.to_text() for profile in options.profiles] == ["16x18", "20x18"]


def test_8_bits_are_calibrated_and_the_calibration_is_in_the_key(
    tiny: Checkpoint, tmp_path: Path, built: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def build_quantised(
        store: Store, source: Any, output: Path, options: Any, calibration: Any, *, progress: Any, caches: Path
    ) -> None:
        assert caches == output.parents[1]
        asked.append((source.size, source.pixels, options.precision, calibration))
        output.write_bytes(b"engine")

    monkeypatch.setattr(engine, "build_quantised", build_quantised)
    store, repaired = Store(tmp_path), replace(BUNDLED, repairs=("equalisation",))
    first = stored_engine("tensorrt-rtx-int8", store, tiny, {(16, 18): 1})
    assert stored_engine("tensorrt-rtx-int8", store, tiny, {(16, 18): 1}) == first
    assert stored_engine("tensorrt-rtx-int8", store, tiny, {(16, 18): 1}, calibration=repaired) != first
    assert asked == [((16, 18), "uint8", "int8", BUNDLED), ((16, 18), "uint8", "int8", repaired)]
    assert built == []


def test_mixed_sizes_are_refused(tiny: Checkpoint, tmp_path: Path, built: list[Any]) -> None:
    candidate = make_candidate("tensorrt-rtx-fp16", Store(tmp_path), tiny, None)
    with pytest.raises(InputError, match="frames are of several"):
        candidate.open(None)
    assert built == []


def test_without_a_gpu_nothing_is_exported(tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(engine, "open_product", lambda _: FakeMachine("tensorrt-rtx").product)
    monkeypatch.setattr(product, "load_libcuda", absent)
    with pytest.raises(MissingRuntimeError, match="No NVIDIA driver"):
        make_candidate("tensorrt-rtx", Store(tmp_path), tiny, None).open((16, 18))
    assert list(tmp_path.iterdir()) == []


def test_a_named_engine_file_runs_as_a_candidate(tiny: Checkpoint, fixed_graph: Path, tmp_path: Path) -> None:
    machine = FakeMachine("tensorrt-rtx")
    file = machine.build(fixed_graph, tmp_path / "e.engine", precision="fp16", checkpoint=tiny.digest)
    candidate = make_candidate(f"tensorrt-rtx-fp16:{file.path}", Store(tmp_path), tiny, None)
    with machine.installed(), candidate.open(None) as runner:
        frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        assert runner.run(tiny.contract.encode(frame)).shape == (1, 3, 48, 64)
    with pytest.raises(InputError, match="name an engine file"):
        make_candidate(f"tensorrt-rtx:{tmp_path}/no.engine", Store(tmp_path), tiny, None)


def test_what_running_leaves_is_no_part_of_an_artefact(tmp_path: Path) -> None:
    (tmp_path / "a.engine").write_text(json.dumps({}))
    before = digest_of(tmp_path)
    (tmp_path / "a.engine.gpu-sm89-580.runtime-cache").touch()
    assert digest_of(tmp_path) == before
    (tmp_path / "b").touch()
    assert digest_of(tmp_path) != before
