"""A checkpoint becomes an 8-bit engine by itself: calibrated, scored, within its budget, and told in the manifest."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from unblur.building.engine import BuildOptions, rebuild_engine
from unblur.calibration.collect import collect
from unblur.cli import build_engine as door
from unblur.cli import search_precision as search_door
from unblur.cli.flags import resolve
from unblur.compare.measure.frames import find_frames
from unblur.core.console import SILENT
from unblur.core.errors import BudgetError, InputError
from unblur.engines.tensorrt.manifest import read_manifest
from unblur.engines.tensorrt.profiles import parse_profile
from unblur.engines.xray.gpus import find_gpu
from unblur.export import graph as api
from unblur.graphs.metadata import CALIBRATION_KEY
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline import stages
from unblur.pipeline.config import BuildSection, CalibrationSection, GraphSection, NetworkSection, PipelineConfig
from unblur.pipeline.held_out import Named
from unblur.pipeline.job import Calibration, Job, Source
from unblur.pipeline.making import graph as graphs
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.scored_engine import build_best_of_all, build_quantised, form_of, scored_graph
from unblur.pipeline.store import Artefact, Store

pytestmark = pytest.mark.tensorrt_rtx

SIZE = (48, 64)
# Observed 38 dB on these random weights; the floors of trained networks are tested where those are scored.
INT8 = BuildOptions("int8", targets=("sm89",), fidelity_db=25.0)
LOSS_DB = 1.0


@pytest.fixture(scope="module")
def store(tiny: Checkpoint, fixed_graph: Path, dynamic_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """With graphs in it that the tests have already: it takes PyTorch half a minute to trace them again."""
    store = Store(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        for size, graph in ((SIZE, fixed_graph), (None, dynamic_graph)):
            patch.setattr(graphs, "export_graph", lambda _, path, graph=graph, **options: shutil.copyfile(graph, path))
            stored_graph(store, tiny, size)
    return store


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    path = tmp_path_factory.mktemp("manifest") / "three.toml"
    collect(["synthetic:0"], 3, SIZE, path)
    return Calibration(path)


def test_from_a_checkpoint_to_an_int8_engine(
    tiny: Checkpoint, store: Store, calibration: Calibration, tmp_path: Path
) -> None:
    built = build_quantised(store, Source(tiny, SIZE), tmp_path / "a.engine", INT8, calibration, LOSS_DB)
    manifest = built.manifest
    assert set(manifest["targets"]["sm89"]["convolutions_run_in"]) == {"Int8", "Half"}
    assert manifest["calibration"]["form"] == "tensorrt-rtx"
    assert manifest["calibration"]["repairs"] == ["adaptive-rounding"]
    assert manifest["score"]["size"] == list(SIZE)
    assert 25 < manifest["score"]["fidelity_db_worst"] < 60
    assert CALIBRATION_KEY in {entry.key for entry in onnx.load(built.graph_path).metadata_props}
    before = {path for path in store.root.rglob("*") if path.is_file()}
    again = build_quantised(store, Source(tiny, SIZE), tmp_path / "b.engine", INT8, calibration, LOSS_DB)
    assert {path for path in store.root.rglob("*") if path.is_file()} == before  # nothing is calibrated twice
    assert again.manifest["graph_sha256"] == manifest["graph_sha256"]
    rebuilt = rebuild_engine(built.path)
    assert [rebuilt.manifest[name] for name in ("score", "calibration")] == [
        manifest[name] for name in ("score", "calibration")
    ]


def test_a_graph_of_every_size(tiny: Checkpoint, store: Store, calibration: Calibration, tmp_path: Path) -> None:
    options = replace(INT8, profiles=(parse_profile("32x32:48x64:64x96"),))
    built = build_quantised(store, Source(tiny, None), tmp_path / "a.engine", options, calibration, LOSS_DB)
    assert "Int8" in built.manifest["targets"]["sm89"]["convolutions_run_in"]
    assert built.manifest["score"]["size"] == list(SIZE)


def test_a_budget_that_is_broken_builds_nothing(
    tiny: Checkpoint, store: Store, calibration: Calibration, tmp_path: Path
) -> None:
    source, output = Source(tiny, SIZE), tmp_path / "a.engine"
    with pytest.raises(BudgetError, match=r"in int8: fidelity is .* the budget 70 dB.*Nothing was built"):
        build_quantised(store, source, output, replace(INT8, fidelity_db=70.0), calibration, LOSS_DB)
    with pytest.raises(BudgetError, match=r"of PSNR are lost .* the budget is -1 dB"):
        build_quantised(store, source, output, INT8, calibration, -1.0)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def pictures(tmp_path: Path) -> Named:
    """Three pairs that are larger than the graph, and one that is smaller."""
    for seed, size in enumerate([(60, 70), (48, 64), (49, 90), (40, 90)]):
        for name, picture in zip(("blur", "sharp"), synthetic_pair(seed + 50, *size, "heldout"), strict=True):
            (tmp_path / "my frames" / name).mkdir(parents=True, exist_ok=True)
            write_picture(tmp_path / "my frames" / name / f"{seed}.png", Picture(picture), picture)
    blurred, sharp = tmp_path / "my frames" / "blur", tmp_path / "my frames" / "sharp"
    return Named(tuple(find_frames(blurred, sharp)), blurred, sharp)


def test_named_pictures_are_what_8_bits_are_judged_on(
    tiny: Checkpoint, store: Store, calibration: Calibration, pictures: Named
) -> None:
    def score(named: Named) -> dict[str, Any]:
        given = (store, Source(tiny, SIZE), "int8", "tensorrt-rtx", calibration, 25.0, LOSS_DB)
        found: dict[str, Any] = scored_graph(*given, named=named)[1]["score"]
        return found

    drawn, own = score(Named()), score(pictures)
    assert (drawn["frames"], len(drawn["fidelities_db"])) == ("4 drawn, seeds from 0", 4)
    assert (own["frames"], len(own["fidelities_db"])) == ("3 of 4 pairs in blur", 3)
    assert own["psnr_loss_frames"]["compared"] == 3
    assert set(own["fidelities_db"]).isdisjoint(drawn["fidelities_db"])
    bare = Named(tuple(find_frames(pictures.blurred or Path())), pictures.blurred)
    assert score(bare)["fidelities_db"] == own["fidelities_db"]
    assert score(bare)["psnr_loss_db"] is None
    with pytest.raises(InputError, match=r"None of the 4 pictures, such as .*0.png, is as large as the graph's 96x96"):
        pictures.at((96, 96), tiny.contract.padded_size)


@pytest.mark.parametrize("by", ["nobody", "pairs", "frames"])
def test_a_refusal_prints_the_search_that_finds_what_fits(
    tiny: Checkpoint, store: Store, calibration: Calibration, pictures: Named, by: str
) -> None:
    """The line is typed as it is printed: the search's own door reads it, and scores on the very same pictures."""
    truths = {"nobody": Named(), "pairs": pictures,
              "frames": Named(tuple(find_frames(pictures.blurred or Path())), pictures.blurred)}  # fmt: skip
    given = (store, Source(tiny, SIZE), "int8", "tensorrt-rtx", calibration, 70.0, LOSS_DB)
    with pytest.raises(BudgetError, match=r"in int8: fidelity .*Judged on: .*Nothing was built") as caught:
        scored_graph(*given, named=truths[by], targets=("sm120",))
    program, verb, *typed = shlex.split(str(caught.value).splitlines()[-1])
    assert (program, verb) == ("unblur", "search")
    arguments = search_door._parser().parse_args(typed)
    resolved = resolve(arguments, "search")
    config = resolved.config
    assert config.network.checkpoint == tiny.path
    assert config.calibration.manifest == calibration.path
    assert (config.search.engine, config.search.form) == ("tensorrt-rtx", "tensorrt-rtx")
    assert find_gpu(config.search.gpu).target == "sm120"
    assert config.search.worst_db == 70.0
    frames, at = search_door._held_out(resolved, tiny.contract.padded_size, SILENT)
    assert at == SIZE
    if by == "nobody":
        assert len(frames) == 4
    else:
        same, _ = pictures.at(SIZE, tiny.contract.padded_size)
        for held, own in zip(frames, same, strict=True):
            np.testing.assert_array_equal(held.frame, own.frame)
            assert (held.truth is not None) == (by == "pairs")
    assert ("--budget-db" in typed) == (by != "frames")


def test_best_knows_8_bits_and_says_what_it_left_out(
    tiny: Checkpoint, store: Store, calibration: Calibration, tmp_path: Path
) -> None:
    options = replace(INT8, precision=None)
    best = build_best_of_all(store, Source(tiny, SIZE), tmp_path / "a.engine", options, calibration, LOSS_DB)
    assert {ranked.precision for ranked in best.ranking} == {"fp32", "fp16", "bf16", "int8"}
    (int8,) = (ranked.built for ranked in best.ranking if ranked.precision == "int8")
    assert int8.manifest["score"]["fidelity_db_worst"] > 25
    assert [(name, reason.partition(" leaves")[0]) for name, reason in best.left_out] == [("fp8", "Form fp8")]
    report = json.loads(best.report_path.read_text())
    assert report["left_out"][0]["precision"] == "fp8"
    with pytest.raises(InputError, match=r"none.toml"):
        build_best_of_all(
            store, Source(tiny, SIZE), tmp_path / "b.engine", options, replace(calibration, manifest=Path("none.toml"))
        )


def test_the_stage_of_a_run(tiny: Checkpoint, store: Store, calibration: Calibration) -> None:
    build = BuildSection(precisions=("int8",), targets=("sm89",), fidelity_db=25.0, psnr_loss_db=LOSS_DB)

    def made(build: BuildSection, repairs: tuple[str, ...] = ()) -> Artefact:
        ranges = CalibrationSection(manifest=calibration.path, repairs=repairs)
        graph = GraphSection(sizes=(SIZE,))
        network = NetworkSection(checkpoint=tiny.path)
        config = PipelineConfig(network=network, graph=graph, build=build, calibration=ranges)
        return stages.engine(Job(config, store), SIZE, "int8")

    first = made(build)
    manifest = read_manifest(stages.engine_file(first.path))
    assert manifest["precision"] == "int8"
    assert manifest["score"]["fidelity_db_worst"] > 25
    assert not made(build).fresh
    assert made(build, ("equalisation",)).fresh
    with pytest.raises(BudgetError):
        made(build.model_copy(update={"psnr_loss_db": -1.0}))


def test_each_product_has_its_form() -> None:
    names = [form_of("int8", "tensorrt").name, form_of("int8", "tensorrt-rtx").name, form_of("fp8", "tensorrt").name]
    assert names == ["tensorrt", "tensorrt-rtx", "fp8"]


def test_the_door(
    tiny_path: Path, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "check_graph", lambda *arguments, **options: [])  # exactness is tested elsewhere
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = ["--checkpoint", str(tiny_path), "--height", "48", "--width", "64", "--int8", "--target", "sm89",
             "--manifest", str(calibration.manifest), "--output", str(tmp_path / "a.engine")]  # fmt: skip
    assert door.main([*asked, "--fidelity-db", "25", "--psnr-loss-db", "1", "--repair", "equalisation"]) == 0
    told = capsys.readouterr().out
    assert "calibrated by percentile on 3 frames of three.toml, repairs: equalisation" in told
    assert "dB of PSNR lost on 4 drawn" in told
    assert door.main([*asked, "--fidelity-db", "70"]) == 3
    assert door.main([*asked, "--algorithm", "minmaks"]) == 2
    assert "did you mean 'minmax'" in capsys.readouterr().err
