"""--precision best: all are built and kept, the least lower bound wins, and it is said that nothing was measured."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from pixels import BGR

from unblur.building import best
from unblur.building.best import build_best, explain, rank
from unblur.building.engine import BuildOptions, BuiltEngine
from unblur.core.artefacts import file_digest
from unblur.core.console import ConsoleProgress
from unblur.core.errors import InputError
from unblur.engines.tensorrt import product
from unblur.engines.tensorrt.manifest import check_files, companions, read_manifest
from unblur.engines.tensorrt.product import Device, Driver, Product
from unblur.engines.tensorrt.profiles import Profile, profiles_to_json
from unblur.engines.xray.gpus import gpus_of
from unblur.engines.xray.kernels import Kernel
from unblur.engines.xray.roofline import roofline
from unblur.metrics.stopwatch import Protocol

needs_rtx = pytest.mark.tensorrt_rtx


def engine(name: str, width: int, *targets: str, kind: str = "Half") -> BuiltEngine:
    """An engine of one kernel that copies a map of this width."""
    tensor = f"a {kind} 1x8x32x{width}"
    kernel = {"name": "k", "kind": "kgen", "inputs": [tensor], "constants": [], "outputs": [tensor], "nodes": []}
    moved = Kernel.from_json(kernel).bytes_moved
    listed = {"each_kernel": [kernel], "bytes_moved": moved, "kernels": 1}
    return BuiltEngine(Path(name), Path(name), Path(name), {"targets": dict.fromkeys(targets or ("sm89",), listed)})


def test_the_least_bound_wins() -> None:
    built: list[Any] = [("fp32", engine("a", 300)), ("fp16", engine("b", 200)), ("int8", engine("c", 100))]
    ranking = rank(built)
    assert [r.precision for r in ranking] == ["int8", "fp16", "fp32"]
    assert [r.score for r in ranking] == pytest.approx([1, 2, 3])
    assert set(ranking[0].bounds_ms) == {f"{gpu.name} (sm89)" for gpu in gpus_of("sm89")}
    assert explain(ranking).startswith("int8: its lower bound is the least, 2.00 times less than that of fp16. Nothing")


def test_level_within_a_hundredth_the_more_exact_one_wins() -> None:
    built: list[Any] = [("bf16", engine("a", 1000)), ("fp16", engine("b", 1005)), ("fp32", engine("c", 1100))]
    ranking = rank(built)
    assert [r.precision for r in ranking] == ["fp16", "bf16", "fp32"]
    assert "level with bf16 (within 1%), and it is the more exact" in explain(ranking)


def test_without_a_known_gpu_the_bytes_decide() -> None:
    assert gpus_of("sm121") == ()
    ranking = rank([("fp32", engine("a", 300, "sm121")), ("fp16", engine("b", 200, "sm121"))])
    assert [(r.precision, r.bounds_ms) for r in ranking] == [("fp16", {}), ("fp32", {})]
    assert "no GPU of this target is in the table" in explain(ranking)


def timed_engine(folder: Path, name: str) -> BuiltEngine:
    """A file with as much of a manifest as it takes to be opened."""
    path = folder / f"{name}.engine"
    path.write_bytes(name.encode())
    contract = json.loads(BGR.to_json())
    manifest = {"product": "tensorrt-rtx", "version": "1", "precision": name, "pixel_contract": contract,
                "engine_sha256": file_digest(path), "profiles": profiles_to_json((Profile.only((8, 12)),))}  # fmt: skip
    companions(path)[1].write_text(json.dumps(manifest))
    return BuiltEngine(path, path, path, manifest | engine(name, 100).manifest)


class SlowRunner:
    """Takes as many milliseconds as MS says; refuses what is not there."""

    MS: ClassVar = {"fp32": 6.0, "fp16": 2.0}

    def __init__(self, name: str, file: Any) -> None:
        if file.precision not in self.MS:
            raise InputError(f"{name}: built for another GPU")
        self._seconds = self.MS[file.precision] / 1e3

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, tensor: Any) -> None:
        assert tensor.shape == (1, 3, 8, 12)
        time.sleep(self._seconds)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU on which SlowRunner plays the engines."""
    driver = Driver(13000, (Device("Fake GPU", "sm89", 1),))
    monkeypatch.setattr(best, "open_product", lambda name: Product(name, None, "1"))
    monkeypatch.setattr(product, "probe_driver", lambda _=None: driver)
    monkeypatch.setattr(best, "TensorRtRunner", SlowRunner)
    monkeypatch.setattr(best, "Protocol", lambda: Protocol(rounds=5, settle_ms=0))


@pytest.mark.usefixtures("gpu")
def test_where_a_gpu_is_the_clock_decides_and_not_the_bound(tmp_path: Path) -> None:
    built: list[Any] = [("fp32", timed_engine(tmp_path, "fp32")), ("fp16", timed_engine(tmp_path, "fp16"))]
    assert rank(built)[0].precision == "fp32"  # their bounds are level, and it is the more exact
    latencies = best.measure_here([made for _, made in built])
    assert latencies is not None
    ranking = rank(built, latencies)
    assert [r.precision for r in ranking] == ["fp16", "fp32"]
    assert (ranking[0].latency_ms, ranking[1].score) == (latencies.medians_ms[1], pytest.approx(3, rel=0.5))
    why = explain(ranking, latencies)
    assert why.startswith("fp16: its median on Fake GPU is the least")
    assert "Nothing was measured" not in why


@pytest.mark.usefixtures("gpu")
def test_what_the_gpu_at_hand_does_not_run_leaves_all_unmeasured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = [timed_engine(tmp_path, name) for name in ("fp32", "bf16")]
    assert best.measure_here(built, ConsoleProgress()) is None
    assert "tensorrt-rtx-bf16: built for another GPU" in capsys.readouterr().err


@needs_rtx
def test_all_are_kept_and_the_winner_has_its_name(fixed_graph: Path, tmp_path: Path) -> None:
    output = tmp_path / "tiny.engine"
    made = build_best(fixed_graph, output, BuildOptions(targets=("sm89",)))
    report = json.loads((tmp_path / "tiny.engine.best.json").read_text())
    assert {c["precision"] for c in report["candidates"]} == {"fp32", "fp16", "bf16"}
    assert report["measured"] is False
    assert report["winner"] == report["candidates"][0]["precision"] == made.ranking[0].precision != "fp32"
    for candidate in report["candidates"]:
        path = tmp_path / candidate["engine"]
        check_files(path, read_manifest(path))
        kernels = [Kernel.from_json(k) for k in read_manifest(path)["targets"]["sm89"]["each_kernel"]]
        for gpu in gpus_of("sm89"):
            bound = candidate["lower_bound_ms"][f"{gpu.name} (sm89)"]
            assert bound == pytest.approx(roofline(kernels, gpu).ms, abs=1e-4)
    manifest = read_manifest(output)
    check_files(output, manifest)
    assert manifest["precision"] == manifest["recipe"]["precision"] == report["winner"]
    assert file_digest(output) == report["candidates"][0]["engine_sha256"]


@needs_rtx
def test_what_a_target_does_not_run_is_left_out_with_the_reason(fixed_graph: Path, tmp_path: Path) -> None:
    made = build_best(fixed_graph, tmp_path / "tiny.engine", BuildOptions(targets=("sm75",)))
    assert [r.precision for r in made.ranking] == ["fp16"]
    assert [name for name, _ in made.left_out] == ["fp32", "bf16"]
    assert "fp32 product on sm75" in made.left_out[0][1]
    assert made.why == "fp16 is the only precision that could be built."


def test_graphs_that_are_no_candidates(
    fixed_graph: Path, dynamic_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "x.engine"
    with pytest.raises(InputError, match="another checkpoint, size or pixel contract"):
        build_best(fixed_graph, output, quantised={dynamic_graph: {}})
    with pytest.raises(InputError, match="not quantised: it is fp32"):
        build_best(fixed_graph, output, quantised={fixed_graph: {}})

    def fails(*_: Any, **__: Any) -> Any:
        raise InputError("no")

    monkeypatch.setattr(best, "build_engine", fails)
    with pytest.raises(InputError, match=r"No precision can be built:\n  fp32: no\n  fp16: no\n  bf16: no"):
        build_best(fixed_graph, output)
    assert not output.exists()
    facts = best.graph_facts
    monkeypatch.setattr(
        best,
        "graph_facts",
        lambda *a: replace(facts(*a), convolutions=(replace(facts(*a).convolutions[0], asked="Half"),)),
    )
    with pytest.raises(InputError, match="is fp16 already; --precision best starts from the float32 graph"):
        build_best(fixed_graph, output)
