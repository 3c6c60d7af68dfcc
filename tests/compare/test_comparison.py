"""A whole comparison on fakes: what is measured, what fails, what breaks, and that a subtle fault does."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_frames import QUICK, save_frame

from unblur.compare.candidates import Candidate
from unblur.compare.comparison import compare_engines
from unblur.compare.judge.budgets import Budget
from unblur.compare.measure.frames import find_frames
from unblur.compare.report import Report
from unblur.compare.tell.sentences import how_measured, verdict_sentence
from unblur.core.errors import BudgetError, InputError, MissingRuntimeError
from unblur.engines.catalogue import open_engine
from unblur.engines.runner import restore_frame
from unblur.images.files import read_picture
from unblur.metrics.decibels import Loss
from unblur.metrics.quality import psnr_db, ssim_matlab
from unblur.networks.banet.network import BANet
from unblur.networks.checkpoints import load_checkpoint, save_checkpoint


def _right(tensor):
    return tensor


def test_an_offset_of_a_hundredth_is_forty_decibels(checkpoint, pictures, settings, faulty) -> None:
    report = compare_engines(checkpoint, [faulty("off", lambda t: t + 0.01)], find_frames(pictures[0]), settings)
    reference, off = report.engines
    assert (reference.name, reference.is_reference) == ("torch", True)
    assert [frame.frame for frame in off.frames] == ["a.png", "night/b.png"]
    assert [(f.height, f.width) for f in off.frames] == [(20, 24), (20, 23)]
    for frame in off.frames:
        # Observed 40.0000 within 1e-5: the outputs are float32 and stay clear of the clamp.
        assert frame.fidelity.tensor_db == pytest.approx(40.0, abs=1e-3)
        assert frame.fidelity.tensor_max_error == pytest.approx(0.01, abs=1e-6)
        assert frame.fidelity.frame_max_error == 3  # 0.01 * 255 = 2.55 levels: 2 or 3
    assert reference.worst_fidelity_db == math.inf
    assert off.psnr_loss_db is None
    assert report.blurred_quality is None


def test_quality_is_against_truth_and_averaged_over_frames(checkpoint, pictures, settings, faulty) -> None:
    frames = find_frames(*pictures)
    report = compare_engines(checkpoint, [faulty("same", _right)], frames, settings)
    psnr, ssim = [], []
    for frame in frames:
        blurred, truth = read_picture(frame.path).frame, read_picture(frame.truth).frame
        psnr.append(psnr_db(blurred, truth, peak=255))
        ssim.append(ssim_matlab(blurred, truth))
    assert report.blurred_quality is not None
    assert report.blurred_quality.psnr_db == pytest.approx(np.mean(psnr))
    assert report.blurred_quality.ssim_matlab == pytest.approx(np.mean(ssim))
    same = report.engines[1]
    assert same.psnr_loss_db == 0.0
    assert same.worst_fidelity_db == math.inf
    assert same.mean_quality == report.engines[0].mean_quality != report.blurred_quality


def test_a_frame_that_is_its_own_truth_hides_no_loss_and_cannot_be_lost(checkpoint, pictures, settings, faulty) -> None:
    """The truth of a.png is what the reference makes of it: as with a black pair, its PSNR is infinite."""
    blurred = read_picture(pictures[0] / "a.png").frame
    with open_engine("torch", checkpoint, None, threads=1) as runner:
        Image.fromarray(restore_frame(runner, blurred)).save(pictures[1] / "a.png")
    runs = {"second": 0, "first": 0}

    def brighten(name: str, place: int):
        def fault(tensor):
            runs[name] += 1
            return np.clip(tensor + 0.1, -0.5, 0.5) if runs[name] == place else tensor

        return faulty(name, fault)

    engines = [brighten("second", 2), brighten("first", 1), faulty("same", _right)]
    limits = replace(settings, protocol=None, budgets={"*": Budget(psnr_loss_db_max=0.05)})
    report = compare_engines(checkpoint, engines, find_frames(*pictures), limits)
    torch_row, second, first, same = report.engines
    by_frame = [frame.quality.psnr_db for frame in torch_row.frames]
    assert by_frame[0] == math.inf
    assert torch_row.mean_quality.psnr_db == by_frame[1]
    assert second.psnr_loss_db == by_frame[1] - second.frames[1].quality.psnr_db
    assert second.loss == Loss(second.psnr_loss_db, 1, untouched=1)
    assert first.loss == Loss(math.inf, 1, spoilt=1)
    assert same.loss == Loss(0.0, 1, untouched=1)
    assert [[check.kept for check in engine.checks] for engine in report.engines] == [[], [False], [False], [True]]
    with pytest.raises(
        BudgetError, match=r"measured inf \(mean over 1 of 2 frames; 1 identical to it in the"
    ) as caught:
        report.enforce()
    assert "an unbounded loss; spoilt: a.png)" in str(caught.value)
    told = " ".join(how_measured(report))
    assert "not in its mean: torch 1, second 1, same 1." in told
    assert "second: mean over 1 of 2 frames; 1 identical to the truth in both." in told
    again = Report.model_validate(json.loads(json.dumps(report.to_json(), allow_nan=False)))
    assert again == report.model_copy(update={"strips": (), "attention": ()})


def test_one_changed_weight_breaks_a_fidelity_budget(checkpoint, pictures, settings, tmp_path) -> None:
    """Negative control: the checkpoint differs from the candidate's in one weight of thousands, by two hundredths."""
    network = BANet(checkpoint.recognised.spec)
    network.load_state_dict(checkpoint.network.state_dict())
    with torch.no_grad():
        network.get_parameter("BAM_1.final_conv.weight")[0, 0, 1, 1] += 0.02
    save_checkpoint(network, tmp_path / "changed.safetensors")
    other = load_checkpoint(tmp_path / "changed.safetensors")
    frames = find_frames(pictures[0])
    budgets = {"*": Budget(fidelity_db_min=120)}
    for candidate, kept in ((checkpoint, True), (other, False)):
        engine = Candidate(
            "torch-channels-last", lambda _, c=candidate: open_engine("torch-channels-last", c, None, threads=1)
        )
        report = compare_engines(checkpoint, [engine], frames, replace(settings, budgets=budgets))
        measured = report.engines[1].worst_fidelity_db
        assert measured is not None
        # Observed: 158 dB for the same weights, 111 dB with the changed one.
        assert report.engines[1].checks[0].kept is kept, measured
        # In bytes the fault is one level here and there: no eye would find it.
        assert all(frame.fidelity.frame_max_error <= 1 for frame in report.engines[1].frames)
    with pytest.raises(BudgetError, match=r"torch-channels-last: fidelity_db_min is 120, measured 1\d\d") as caught:
        report.enforce()
    assert caught.value.exit_code == 3


def test_latency_is_of_one_size_and_keeps_every_sample(checkpoint, pictures, settings, faulty, tmp_path) -> None:
    save_frame(pictures[0] / "c.png", 32, 16, seed=7)
    save_frame(pictures[0] / "d.png", 32, 16, seed=8)
    opened = []

    def open_it(size):
        opened.append(size)
        return faulty("x", _right).open(size)

    report = compare_engines(checkpoint, [Candidate("x", open_it)], find_frames(pictures[0]), settings)
    assert opened == [None, (32, 16)]  # several sizes: one runner for all of them, then one for the commonest
    session = report.latency
    assert session is not None
    assert (session.height, session.width, session.frames) == (32, 16, ("c.png", "d.png"))
    assert len([s for s in session.samples if not s.warmup]) == 2 * QUICK.rounds
    for engine in report.engines:
        assert engine.latency is not None
        assert engine.latency.summary.count == QUICK.rounds
    assert report.engines[0].latency.speedup.value == 1.0


def test_one_size_needs_one_runner(checkpoint, tmp_path, settings, faulty) -> None:
    for name in "ab":
        save_frame(tmp_path / f"{name}.png", 19, 24)
    opened = []

    def open_it(size):
        opened.append(size)
        return faulty("x", _right).open(size)

    report = compare_engines(checkpoint, [Candidate("x", open_it)], find_frames(tmp_path), settings)
    assert opened == [(20, 24)]  # padded
    assert (report.latency.height, report.latency.width) == (19, 24)


def test_latency_at_a_size_that_no_frame_has(checkpoint, pictures, settings, faulty) -> None:
    report = compare_engines(
        checkpoint,
        [faulty("x", _right)],
        find_frames(pictures[0]),
        replace(settings, latency_size=(64, 16)),
    )
    assert (report.latency.height, report.latency.width) == (64, 16)


def test_no_latency_when_not_asked(checkpoint, pictures, settings, faulty) -> None:
    stand_in = replace(faulty("stand-in", _right), timed=False)
    engines = [faulty("x", _right), stand_in]
    limits = replace(settings, budgets={"*": Budget(latency_ms_max=1e9, fidelity_db_min=1)})
    report = compare_engines(checkpoint, engines, find_frames(pictures[0]), limits)
    assert [len(engine.checks) for engine in report.engines] == [0, 2, 1]
    report.enforce()
    assert [engine.latency is None for engine in report.engines] == [False, False, True]
    report = compare_engines(checkpoint, engines, find_frames(pictures[0]), replace(settings, protocol=None))
    assert report.latency is None
    assert all(engine.latency is None for engine in report.engines)


def test_a_bad_frame_among_good_ones_is_listed_and_the_others_finished(checkpoint, pictures, settings, faulty) -> None:
    (pictures[0] / "bad.png").write_bytes(b"not a picture")
    save_frame(pictures[1] / "bad.png")
    (pictures[0] / "worse.png").write_bytes(b"")
    save_frame(pictures[1] / "worse.png")
    report = compare_engines(checkpoint, [faulty("x", _right)], find_frames(*pictures), settings)
    assert [failure.frame for failure in report.failures] == ["bad.png", "worse.png"]
    assert all(str(pictures[0].parent) not in failure.reason for failure in report.failures)
    assert [frame.frame for frame in report.engines[1].frames] == ["a.png", "night/b.png"]
    with pytest.raises(InputError, match=r"(?s)2 comparison.*bad\.png.*worse\.png is empty") as caught:
        report.enforce()
    assert caught.value.exit_code == 2


def test_only_bad_frames(checkpoint, tmp_path, settings, faulty) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"None of the 1 frames.*\n  bad\.png"):
        compare_engines(checkpoint, [faulty("x", _right)], find_frames(tmp_path), settings)


def test_an_engine_that_gives_nan_breaks_its_budget(checkpoint, pictures, settings, faulty) -> None:
    def overflow(tensor):
        tensor[0, 0, 3, 3] = np.nan
        return tensor

    budgets = {"half": Budget(fidelity_db_min=20)}
    engines = [faulty("half", overflow), faulty("fine", _right)]
    report = compare_engines(checkpoint, engines, find_frames(pictures[0]), replace(settings, budgets=budgets))
    assert {(f.frame, f.engine) for f in report.failures} == {("a.png", "half"), ("night/b.png", "half")}
    assert len(report.engines[2].frames) == 2
    with pytest.raises(BudgetError, match=r"(?s)half: fidelity_db_min is 20, measured nothing.*NaN"):
        report.enforce()


def _with_residual(checkpoint, factor: float, folder: Path):
    """The checkpoint with what it adds to its input multiplied: at 0 it gives back its input."""
    network = BANet(checkpoint.recognised.spec)
    network.load_state_dict(checkpoint.network.state_dict())
    with torch.no_grad():
        for parameter in network.de_layer3.parameters():
            parameter *= factor
    path = folder / f"{factor}.safetensors"
    save_checkpoint(network, path)
    return load_checkpoint(path)


def test_worse_than_the_blurred_input_is_told_and_breaks_a_budget_that_asks(
    checkpoint, pictures, settings, faulty, tmp_path
) -> None:
    """The reference all but gives back its input, or spoils it: both sides of the gate on the same frames."""
    limits = {"*": Budget(fidelity_db_min=1, gain_db_min=-0.1, psnr_db_min=20)}
    settings = replace(settings, protocol=None, budgets=limits)
    frames = find_frames(*pictures)
    still, wild = (_with_residual(checkpoint, factor, tmp_path) for factor in (1e-3, 1e3))

    def engines(of):
        return [Candidate("onnx", lambda _: open_engine("torch-channels-last", of, None, threads=1))]

    good = compare_engines(still, engines(still), frames, settings)
    assert good.warnings == ()
    assert good.engines[1].gain_db == pytest.approx(0, abs=0.1)
    good.enforce()
    bad = compare_engines(wild, engines(wild), frames, settings)
    assert bad.engines[0].gain_db < -5
    assert bad.engines[1].gain_db == pytest.approx(bad.engines[1].mean_quality.psnr_db - bad.blurred_quality.psnr_db)
    assert [line.split()[0] for line in bad.warnings] == ["torch", "onnx"]
    assert all("wrong checkpoint, channel order?" in line for line in bad.warnings)
    assert {check.budget: check.kept for check in bad.engines[1].checks} == {
        "fidelity_db_min": True, "gain_db_min": False, "psnr_db_min": False,
    }  # fmt: skip
    assert json.loads(json.dumps(bad.to_json(), allow_nan=False))["warnings"] == list(bad.warnings)
    with pytest.raises(BudgetError, match=r"onnx: gain_db_min is -0.1, measured -"):
        bad.enforce()
    unasked = compare_engines(wild, engines(wild), frames, replace(settings, budgets={}))
    assert unasked.warnings == bad.warnings
    unasked.enforce()


def test_an_engine_that_spoils_what_the_reference_does_not_is_no_wrong_checkpoint(
    checkpoint, pictures, settings, faulty, tmp_path
) -> None:
    right = _with_residual(checkpoint, 0, tmp_path)  # gives back its input
    engine = faulty("dark", lambda t: np.clip(t - 0.4, -0.5, 0.5))
    report = compare_engines(right, [engine], find_frames(*pictures), replace(settings, protocol=None))
    assert report.engines[0].gain_db == 0 > report.engines[1].gain_db
    (warning,) = report.warnings
    assert warning.startswith("dark makes pictures worse than its blurred input")
    assert "a fault of the engine" in warning


def test_every_budget_can_break(checkpoint, pictures, settings, faulty) -> None:
    budget = Budget(fidelity_db_min=60, psnr_loss_db_max=0.0, psnr_db_min=90, gain_db_min=60, latency_ms_max=1e-6,
                    speedup_min=1e6)  # fmt: skip
    assert set(budget.model_dump(exclude_none=True)) == set(Budget.model_fields)
    budgets = {"slow": budget}
    engines = [faulty("slow", lambda t: np.clip(t - 0.4, -0.5, 0.5))]
    report = compare_engines(checkpoint, engines, find_frames(*pictures), replace(settings, budgets=budgets))
    assert [check.kept for check in report.engines[1].checks] == [False] * len(Budget.model_fields)
    with pytest.raises(BudgetError, match=f"{len(Budget.model_fields)} budget"):
        report.enforce()


def test_budgets_that_cannot_be_checked_are_refused_at_once(checkpoint, pictures, settings, faulty) -> None:
    frames, engines = find_frames(pictures[0]), [faulty("x", _right)]
    for budgets, protocol, message in (
        ({"*": Budget(psnr_loss_db_max=0.1)}, QUICK, "psnr_loss_db_max .* --truth"),
        ({"*": Budget(psnr_db_min=0.1)}, QUICK, "psnr_db_min .* --truth"),
        ({"*": Budget(gain_db_min=0)}, QUICK, "gain_db_min .* --truth"),
        ({"*": Budget(latency_ms_max=5)}, None, "latency is not measured"),
        ({"y": Budget()}, QUICK, "names the engine 'y'"),
    ):
        with pytest.raises(InputError, match=message):
            compare_engines(checkpoint, engines, frames, replace(settings, budgets=budgets, protocol=protocol))


def test_an_engine_twice_is_refused(checkpoint, pictures, settings, faulty) -> None:
    with pytest.raises(InputError, match="once"):
        compare_engines(checkpoint, [faulty("x", _right)] * 2, find_frames(pictures[0]), settings)


def test_an_engine_this_machine_cannot_run(checkpoint, pictures, settings, faulty) -> None:
    def cannot(size):
        raise MissingRuntimeError("bf16: this CPU has no bf16.")

    engines = [Candidate("bf16", cannot), faulty("x", _right)]
    frames = find_frames(pictures[0])
    with pytest.raises(MissingRuntimeError, match="no bf16"):
        compare_engines(checkpoint, engines, frames, settings)
    skipping = replace(settings, skip_missing=True, budgets={"*": Budget(fidelity_db_min=60)})
    report = compare_engines(checkpoint, engines, frames, skipping)
    assert [len(engine.checks) for engine in report.engines] == [0, 0, 1]
    assert [engine.not_measured for engine in report.engines] == [None, "this CPU has no bf16.", None]
    report.enforce()
    assert verdict_sentence(report) == (
        "All 1 budgets kept. The budget of all engines was not held against bf16: not measured."
    )
    alone = compare_engines(checkpoint, engines[:1], frames, skipping)
    # Nothing was measured: a gate that held nothing is not kept.
    assert verdict_sentence(alone) == "1 of 1 budgets broken."
    with pytest.raises(BudgetError, match=r"bf16: fidelity_db_min is 60, measured nothing"):
        alone.enforce()
    own = replace(skipping, budgets={"*": Budget(fidelity_db_min=60), "bf16": Budget(latency_ms_max=9, speedup_min=1)})
    report = compare_engines(checkpoint, engines, frames, own)
    assert [check.budget for check in report.engines[1].checks] == ["latency_ms_max", "speedup_min"]
    assert verdict_sentence(report).startswith("2 of 3 budgets broken. The budget of all")
    with pytest.raises(
        BudgetError, match=r"bf16: latency_ms_max is 9, measured nothing \(this CPU has no bf16"
    ) as caught:
        report.enforce()
    assert caught.value.exit_code == 3


def test_the_report_survives_json(checkpoint, pictures, settings, faulty) -> None:
    report = compare_engines(checkpoint, [faulty("x", _right)], find_frames(*pictures), settings)
    text = json.dumps(report.to_json(), allow_nan=False)  # identical pictures are infinitely alike
    again = Report.model_validate(json.loads(text))
    assert again == report.model_copy(update={"strips": (), "attention": ()})
    assert again.engines[1].worst_fidelity_db == math.inf
    assert str(Path.cwd()) not in text
    assert str(pictures[0].parent) not in text
