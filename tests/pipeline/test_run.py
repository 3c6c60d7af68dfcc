"""A run of several sizes and precisions: what each is called, and what breaks one engine's budget alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unblur.calibration.collect import collect
from unblur.calibration.manifest import load_manifest
from unblur.compare.judge.budgets import Budget, spread_budgets
from unblur.core.errors import BudgetError, InputError
from unblur.images.files import Picture, write_picture
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline import stages
from unblur.pipeline.config import (
    BuildSection,
    CalibrationSection,
    CompareSection,
    FramesSection,
    GraphSection,
    NetworkSection,
    PathsSection,
    PipelineConfig,
)
from unblur.pipeline.job import Job
from unblur.pipeline.run import BuiltFile, Stages, run_pipeline
from unblur.pipeline.store import Artefact, Store

SIZES = ((32, 48), (16, 32))


def job(place: Path, tiny: Checkpoint, **sections: Any) -> Job:
    given = {
        "network": NetworkSection(checkpoint=tiny.path),
        "frames": FramesSection(generated=1),
        "graph": GraphSection(sizes=SIZES),
        "build": BuildSection(enabled=False),
        "compare": CompareSection(engines=("torch-channels-last",), rounds=0, threads=1, hang_seconds=0),
        "paths": PathsSection(artifacts=place),
    }
    return Job.of(PipelineConfig(**given | sections))


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Sizes that graphs were asked for; what they hold is not looked at here."""
    asked: list[Any] = []

    def graph(job: Job, size: Any) -> Artefact:
        asked.append(size)
        path = tmp_path / f"{size}.onnx"
        path.write_text(str(size))
        return Artefact(path, str(size), fresh=True)

    monkeypatch.setattr(stages, "graph", graph)
    return asked


def test_each_size_has_its_graph_its_frames_and_its_report(
    tmp_path: Path, tiny: Checkpoint, exported: list[Any]
) -> None:
    root = tmp_path / "artifacts"
    result = run_pipeline(job(root, tiny))
    assert exported == list(SIZES)
    assert [path.name for path in result.graphs] == [f"{tiny.name}-32x48.onnx", f"{tiny.name}-16x32.onnx"]
    assert [one.folder.name for one in result.compared] == ["report", "report-16x32"]
    assert [one.frames.size for one in result.compared] == list(SIZES)
    assert (root / "demo-16x32/blurred/000.png").is_file()
    assert result.engine_missing == "build.enabled is false"
    result.enforce()


def test_one_engine_that_breaks_its_budget_is_told_last_and_the_others_are_built(
    tmp_path: Path, tiny: Checkpoint, exported: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(job: Job, size: Any, precision: str) -> Artefact:
        if precision == "int8":
            raise BudgetError("int8 loses 9 dB")
        folder = tmp_path / f"{size}-{precision}"
        folder.mkdir()
        for suffix in ("", ".onnx"):
            (folder / f"e.engine{suffix}").write_text(precision)
        (folder / "e.engine.json").write_text('{"precision": "fp16"}')
        return Artefact(folder, precision, fresh=True)

    monkeypatch.setattr(stages, "engine", engine)
    monkeypatch.setattr("unblur.pipeline.run.why_no_engine", lambda _: "")
    stage = Stages(job(tmp_path / "artifacts", tiny, build=BuildSection(precisions=("int8", "fp16"))))
    built = stage.engines(SIZES[0])
    assert list(built) == ["fp16"]
    assert built["fp16"].path == tmp_path / "artifacts" / f"{tiny.name}-32x48-fp16.engine"
    assert [str(error) for error in stage.refused] == ["int8 loses 9 dB"]


@pytest.mark.parametrize("precision", ["int8", "fp8", "fp16"])
def test_a_compiled_graph_in_8_bits_is_not_judged_on_its_calibration_frames(
    tmp_path: Path, tiny: Checkpoint, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no engine of the comparison is calibrated: its graph is a row too."""
    collect(["synthetic:0"], 2, SIZES[0], tmp_path / "two.toml")
    frame = next(iter(load_manifest(tmp_path / "two.toml")))
    write_picture(tmp_path / "frames" / "holiday.png", Picture(frame), frame)
    given = job(
        tmp_path / "artifacts", tiny, frames=FramesSection(blurred=tmp_path / "frames"),
        calibration=CalibrationSection(manifest=tmp_path / "two.toml"),
    )  # fmt: skip
    built = BuiltFile(tmp_path / "e.engine", {"precision": precision}, Artefact(tmp_path, "a", fresh=True))
    monkeypatch.setattr(stages, "comparison", lambda *_: pytest.fail("compared"))
    expected = (InputError, "holiday.png is the calibration frame synthetic") if precision != "fp16" else (
        pytest.fail.Exception, "compared")  # fmt: skip
    with pytest.raises(expected[0], match=expected[1]):
        Stages(given).compare(SIZES[0], {None: {precision: built}}, "report")


def test_budgets_of_patterns_reach_what_was_measured_and_an_engines_own_holds() -> None:
    budgets = {
        "*": Budget(fidelity_db_min=60.0),
        "*int8": Budget(fidelity_db_min=40.0, psnr_loss_db_max=0.05),
        "openvino-int8": Budget(fidelity_db_min=50.0),
        "torch-cuda*": Budget(fidelity_db_min=1.0),  # an engine that was not asked for
    }
    spread = spread_budgets(budgets, ["openvino", "openvino-int8", "tensorrt-graph-int8"])
    assert set(spread) == {"*", "openvino-int8", "tensorrt-graph-int8"}
    assert (spread["openvino-int8"].fidelity_db_min, spread["openvino-int8"].psnr_loss_db_max) == (50.0, 0.05)
    assert spread["tensorrt-graph-int8"].fidelity_db_min == 40.0
    with pytest.raises(InputError, match=r"'opnvino\*' reaches no engine"):
        spread_budgets({"opnvino*": Budget(fidelity_db_min=99.0)}, ["openvino"])


def test_engines_of_a_job_share_its_store_and_its_checkpoint(tmp_path: Path, tiny: Checkpoint) -> None:
    one = job(tmp_path, tiny)
    assert isinstance(one.store, Store)
    assert one.checkpoint is one.checkpoint
    assert one.checkpoint.digest == tiny.digest
    assert one.sizes == SIZES
    assert job(tmp_path, tiny, graph=GraphSection(dynamic=True)).sizes == (None,)


def test_budgets_of_the_file_that_a_comparison_has_nothing_for_are_left_out() -> None:
    limits = Budget(fidelity_db_min=40.0, psnr_loss_db_max=0.05, speedup_min=2.0)
    budgets = {"*int8": limits, "openvino": limits, "onnxruntime": limits}
    fitting = stages.fitting_budgets(budgets, ["openvino"], has_truth=False, latency=True)
    assert set(fitting) == {"*int8", "openvino"}
    assert fitting["openvino"] == Budget(fidelity_db_min=40.0, speedup_min=2.0)
    without = stages.fitting_budgets(budgets, ["openvino"], has_truth=True, latency=False)
    assert without["openvino"] == Budget(fidelity_db_min=40.0, psnr_loss_db_max=0.05)
