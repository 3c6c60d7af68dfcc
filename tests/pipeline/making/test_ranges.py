"""8-bit graphs out of the store: the same at every size, made once, and anew for whatever they depend on."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from unblur.calibration.algorithms import algorithms_for, check_algorithm
from unblur.calibration.collect import collect
from unblur.calibration.manifest import load_manifest
from unblur.calibration.repairs.names import (
    BIAS_CORRECTION,
    DEFAULT,
    EQUALISATION,
    REPAIRS,
    ROUNDING,
    check_repairs,
    repairs_for,
)
from unblur.calibration.score import HeldOut, Judge, Score
from unblur.calibration.statistics import load_statistics, save_statistics
from unblur.core.artefacts import file_digest
from unblur.core.errors import InputError
from unblur.graphs.facts import CONVOLUTIONS
from unblur.graphs.file import read_graph
from unblur.graphs.metadata import CALIBRATION_KEY
from unblur.graphs.rewrites.forms import FORMS, find_form
from unblur.graphs.rewrites.quantise import tensors_to_measure
from unblur.graphs.rewrites.ranges import Ranges
from unblur.metrics.decibels import Loss
from unblur.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from unblur.pipeline.held_out import drawn_held_out, find_overlaps
from unblur.pipeline.job import CalibrationSet
from unblur.pipeline.making import bake_off as bake_off_module
from unblur.pipeline.making import eight_bits as quantised_module
from unblur.pipeline.making import graph as graphs
from unblur.pipeline.making.bake_off import bake_off, best_algorithm
from unblur.pipeline.making.eight_bits import float_graph, stored_quantised
from unblur.pipeline.making.graph import stored_graph
from unblur.pipeline.making.ranges import stored_manifest, stored_ranges, stored_statistics
from unblur.pipeline.store import Artefact, Store

SIZE, OTHER = (48, 64), (32, 48)
OPENVINO = find_form("openvino")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One for all tests."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def exported_before(fixed_graph: Path, dynamic_graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs that every test run exports anyway are not exported again."""
    known = {SIZE: fixed_graph, None: dynamic_graph}

    def stored(store: Store, checkpoint: Checkpoint, size: tuple[int, int] | None, *rest: Any, **more: Any) -> Artefact:
        if size in known:
            return Artefact(known[size], file_digest(known[size]), fresh=False)
        return graphs.stored_graph(store, checkpoint, size, *rest, **more)

    for module in (quantised_module, bake_off_module, sys.modules[__name__]):
        monkeypatch.setattr(module, "stored_graph", stored)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "three.toml"
    collect(["synthetic:0"], 3, SIZE, path)
    return path


@pytest.fixture
def of(tiny: Checkpoint, store: Store, manifest: Path) -> CalibrationSet:
    return CalibrationSet(tiny, stored_manifest(store, manifest), threads=1)


def quantised(
    store: Store, of: CalibrationSet, size: tuple[int, int] | None = SIZE, form: str = "openvino",
    algorithm: str = "minmax", repairs: tuple[str, ...] = (),
) -> Artefact:  # fmt: skip
    return stored_quantised(store, store.root, of, size, find_form(form), algorithm, repairs)


def constants(path: Path) -> dict[str, bytes]:
    return {t.name: t.SerializeToString(deterministic=True) for t in onnx.load(path).graph.initializer}


def test_statistics_survive_the_file(store: Store, of: CalibrationSet, tmp_path: Path) -> None:
    graph = stored_graph(store, of.checkpoint, SIZE)
    for histograms in (False, True):
        kept = load_statistics(stored_statistics(store, store.root, graph, of, histograms).path)
        path = tmp_path / f"{histograms}.npz"
        save_statistics(path, kept)
        again = load_statistics(path)
        assert list(again) == list(kept)
        for name, one in kept.items():
            assert (one.low, one.high, one.mean_low, one.mean_high) == (
                again[name].low, again[name].high, again[name].mean_low, again[name].mean_high,
            )  # fmt: skip
            assert (one.counts is not None) == histograms
            assert np.array_equal(one.counts, again[name].counts) if histograms else again[name].counts is None
    for broken in (b"", b"PK\x03\x04 no archive", (tmp_path / "True.npz").read_bytes()[:500]):
        (tmp_path / "broken.npz").write_bytes(broken)
        with pytest.raises(InputError, match="holds no statistics"):
            load_statistics(tmp_path / "broken.npz")


def test_what_nothing_changed_in_is_found(store: Store, of: CalibrationSet, monkeypatch: pytest.MonkeyPatch) -> None:
    first = quantised(store, of)
    monkeypatch.setattr(
        "unblur.pipeline.making.ranges.measure_statistics", lambda *_, **__: pytest.fail("measured again")
    )
    monkeypatch.setattr("unblur.pipeline.making.eight_bits.quantise", lambda *_, **__: pytest.fail("quantised again"))
    again = quantised(store, of)
    assert (again.path, again.digest, again.fresh) == (first.path, first.digest, False)


@pytest.mark.parametrize(
    "what", ["weights", "frames", "algorithm", "form", "rules", "repairs", "keep", "opset", "contract"]
)
def test_every_change_demands_a_new_graph(
    what: str, store: Store, of: CalibrationSet, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the work itself: what the store is asked for tells."""
    made: list[str] = []

    def stored(store: Store, checkpoint: Checkpoint, size: object, pixels: str, opset: int, **_: object) -> Artefact:
        recipe = (checkpoint.digest, size, pixels, opset, checkpoint.contract.to_json())
        return dataclasses.replace(exported, digest=str(hash(recipe)))

    real = Store.make

    def make(self: Store, recipe: object, label: str, write: object) -> Artefact:
        made.append(recipe.key)  # type: ignore[attr-defined]
        return real(self, recipe, label, write)  # type: ignore[arg-type]

    exported = stored_graph(store, of.checkpoint, SIZE)
    own = Store(tmp_path / "store")
    monkeypatch.setattr("unblur.pipeline.making.eight_bits.stored_graph", stored)
    monkeypatch.setattr(Store, "make", make)
    quantised(own, of)
    (before, made[:]) = made[-1], []
    changes = {"form": "openvino", "algorithm": "minmax", "repairs": ()}
    if what == "weights":
        network = load_checkpoint(of.checkpoint.path).network
        network.get_parameter("BAM_1.BA.conv_5.weight").data[0, 0, 0, 0] += 0.01
        save_checkpoint(network, tmp_path / "other.safetensors")
        of = dataclasses.replace(of, checkpoint=load_checkpoint(tmp_path / "other.safetensors"))
    elif what == "contract":
        rgb = load_checkpoint(of.checkpoint.path, "rgb")
        of = dataclasses.replace(of, checkpoint=rgb)
    elif what == "frames":
        text = manifest.read_text()
        (tmp_path / "two.toml").write_text(text[: text.rindex("[[frames]]")])
        of = dataclasses.replace(of, manifest=load_manifest(tmp_path / "two.toml", store.root / "calibration/frames"))
    elif what == "keep":
        of = dataclasses.replace(of, keep=("none",))
    elif what == "opset":
        of = dataclasses.replace(of, opset=19)
    elif what == "rules":
        form = dataclasses.replace(OPENVINO, narrowest=5)
        monkeypatch.setitem(FORMS, "openvino", form)  # type: ignore[arg-type]
    else:
        changes[what] = {"form": "tensorrt", "algorithm": "moving-average", "repairs": ("bias-correction",)}[what]
    quantised(own, of, **changes)  # type: ignore[arg-type]
    assert made[-1] != before


def test_ranges_of_one_size_serve_all(store: Store, of: CalibrationSet, tiny: Checkpoint) -> None:
    """No name of a map that a form may quantise, and no choice of what stays wide, differs between sizes."""
    graphs = {size: onnx.load(stored_graph(store, tiny, size).path) for size in (SIZE, OTHER)}
    for form in FORMS.values():
        tensors = {size: tensors_to_measure(model, form, {}) for size, model in graphs.items()}
        assert tensors[SIZE] == tensors[OTHER]
    here, there = (onnx.load(quantised(store, of, size).path) for size in (SIZE, OTHER))
    scales = [{t.name: t.raw_data for t in m.graph.initializer if t.name.endswith("/scale")} for m in (here, there)]
    assert scales[0] == scales[1]
    assert len(scales[0]) > 20


@pytest.mark.parametrize("form", ["openvino", "tensorrt"])
def test_repairs_are_carried_to_every_size(form: str, store: Store, of: CalibrationSet, tiny: Checkpoint) -> None:
    """The weights and biases are the very same, and the graphs stay close to their float32 graphs."""
    plain = constants(quantised(store, of, SIZE, form).path)
    repaired = {size: quantised(store, of, size, form, repairs=REPAIRS) for size in (SIZE, OTHER, None)}
    weights = {
        size: {name: value for name, value in constants(one.path).items() if "/int8" in name or "/corrected" in name}
        for size, one in repaired.items()
    }
    assert weights[SIZE] == weights[OTHER] == weights[None]
    assert any("/corrected" in name for name in weights[SIZE])
    assert any(value != plain[name] for name, value in weights[SIZE].items() if name in plain), "nothing equalised"
    for size, one in repaired.items():
        plainly = stored_graph(store, tiny, size).path
        judge = Judge(plainly, drawn_held_out(size or OTHER, 1))
        scaled = float_graph(store, of, size, find_form(form), REPAIRS)
        assert judge.score(scaled.path, exact=True) == judge.score(plainly, exact=True), "equalised, the same function"
        # Seen: 40 to 46 dB; signed maps of random weights: 22 to 25 dB with and without repairs.
        assert judge.score(one.path, exact=True).fidelity_db_worst > (35 if form == "openvino" else 20)


def test_the_graph_tells_what_it_was_calibrated_on(
    store: Store, of: CalibrationSet, manifest: Path, tmp_path: Path
) -> None:
    made = read_graph(quantised(store, of).path)
    convolutions = [n for n in onnx.load(made.path).graph.node if n.op_type in CONVOLUTIONS]
    assert 0 < made.quantised < len(convolutions), "first and last stay wide"
    assert made.calibration == "minmax, on 3 frames of three.toml"
    assert made.checkpoint == of.checkpoint.digest
    about = json.loads({p.key: p.value for p in onnx.load(made.path).metadata_props}[CALIBRATION_KEY])
    assert about["manifest_sha256"] == of.manifest.digest
    assert len(about["kept"]) + made.quantised == len(convolutions)
    overlapping = tmp_path / "three.toml"
    overlapping.write_text(manifest.read_text().replace("overlaps = []", 'overlaps = ["synthetic:0 is test/1.png"]'))
    told = dataclasses.replace(of, manifest=load_manifest(overlapping, store.root / "calibration/frames"))
    assert read_graph(quantised(store, told).path).calibration.endswith("NOT HELD OUT: synthetic:0 is test/1.png")
    onnx_file = onnx.load(made.path)
    onnx.helper.set_model_props(
        onnx_file, {p.key: p.value for p in onnx_file.metadata_props} | {CALIBRATION_KEY: '{"algorithm": 1}'}
    )
    onnx.save(onnx_file, tmp_path / "broken.onnx")
    with pytest.raises(InputError, match=r"unblur\.calibration cannot be read"):
        read_graph(tmp_path / "broken.onnx")


def test_the_best_algorithm_wins_the_bake_off(
    store: Store, of: CalibrationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(name: str) -> Artefact:
        return quantised(store, of, algorithm=name)

    held_out = drawn_held_out(SIZE, 2)
    scored = bake_off(store, of, SIZE, algorithms_for(OPENVINO), make, lambda: held_out, "two frames")
    assert {one.algorithm for one in scored} == {"minmax", "moving-average", "percentile", "entropy", "mse"}
    means = [one.score.fidelity_db_mean for one in scored]
    assert means == sorted(means, reverse=True)
    judge = Judge(stored_graph(store, of.checkpoint, SIZE).path, held_out)
    assert scored[-1].score == judge.score(scored[-1].graph.path, exact=True), "as it was scored before it was kept"
    again = bake_off(store, of, SIZE, algorithms_for(OPENVINO), make, lambda: pytest.fail("drawn again"), "two frames")
    assert [(one.algorithm, one.score) for one in again] == [(one.algorithm, one.score) for one in scored]
    best = quantised(store, of, algorithm="best", repairs=(DEFAULT,))
    winner = best_algorithm(store, of, OPENVINO, make)
    judge = Judge(stored_graph(store, of.checkpoint, SIZE).path, drawn_held_out(SIZE))
    ways = {repairs: quantised(store, of, algorithm=winner, repairs=repairs) for repairs in ((), (ROUNDING,))}
    means = {w: judge.score(made.path, exact=True).fidelity_db_mean for w, made in ways.items()}
    assert best.digest == ways[max(means, key=lambda repairs: means[repairs])].digest
    corrected = quantised(store, of, algorithm="best", repairs=(BIAS_CORRECTION,))
    about = json.loads({p.key: p.value for p in onnx.load(corrected.path).metadata_props}[CALIBRATION_KEY])
    assert about["repairs"] == [BIAS_CORRECTION], "who names repairs gets these"
    monkeypatch.setattr(bake_off_module, "drawn_held_out", lambda _: [HeldOut(next(iter(of.manifest)))])
    monkeypatch.setattr(bake_off_module, "DRAWN", 1)
    with pytest.raises(InputError, match=r"held-out frame 1 is the calibration frame synthetic:.*flatter"):
        best_algorithm(store, of, OPENVINO, make)


def test_a_held_out_frame_is_known_again(of: CalibrationSet) -> None:
    entry = of.manifest.entries[1]
    seen = list(of.manifest)[1]
    other = drawn_held_out(SIZE, 1)[0]
    darker = (seen * 0.9).astype(np.uint8)
    assert find_overlaps(of.manifest, [other, HeldOut(darker)]) == (
        f"held-out frame 2 is the calibration frame {entry.name}",
    )


def test_infinite_scores_survive_json() -> None:
    for score in (Score((float("inf"),), Loss(float("inf"), 0, spoilt=1)), Score((51.25, float("inf")), None)):
        assert Score.from_json(json.loads(json.dumps(score.to_json(), allow_nan=False))) == score


def test_a_nan_in_the_network_is_named(of: CalibrationSet, store: Store, tmp_path: Path) -> None:
    broken = onnx.load(stored_graph(store, of.checkpoint, SIZE).path)
    weight = next(t for t in broken.graph.initializer if t.name == "en_layer2.0.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32("nan"), weight.name))
    onnx.save(broken, tmp_path / "broken.onnx")
    graph = Artefact(tmp_path / "broken.onnx", "0" * 64, fresh=True)
    with pytest.raises(InputError, match=r"Tensor .* holds NaN or infinity on calibration frame 1"):
        stored_ranges(store, store.root, graph, of, check_algorithm("minmax", OPENVINO))


def test_a_killed_measurement_goes_on_and_ends_the_same(
    store: Store, of: CalibrationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in each pass, through the store: nothing half stands under a final name, no state is left at the end."""
    graph = stored_graph(store, of.checkpoint, SIZE)
    whole = Ranges.from_json(
        stored_ranges(store, store.root, graph, of, check_algorithm("entropy", OPENVINO)).path.read_text()
    )
    own = Store(tmp_path / "store")
    shutil.copytree(store.root / "calibration" / "frames", own.root / "calibration" / "frames")

    class Killed(BaseException):
        pass

    import unblur.calibration.statistics as statistics

    real, real_save = statistics.measure_statistics, statistics._State.save
    monkeypatch.setattr(  # frame by frame, as more frames than memory holds
        "unblur.pipeline.making.ranges.measure_statistics",
        lambda *a, **k: real(*a, **k, save_every_s=0.0, held_pixels=0),
    )
    done: list[int] = []
    for stop in (1, 3):  # behind frame 1 of pass 1; then 2 of pass 1 are left, and it dies behind frame 1 of pass 2
        calls = 0

        def dying(at: Any, path: Path) -> None:
            nonlocal calls
            calls += 1
            real_save(at, path)
            if calls == stop:  # noqa: B023
                raise Killed

        monkeypatch.setattr(statistics._State, "save", dying)
        with pytest.raises(Killed):
            stored_statistics(own, own.root, graph, of, True)
        assert list((own.root / "calibration").glob("*-statistics-*")) == []
        assert len(list((own.root / "calibration").glob("state-*.npz"))) == 1

    def counting(at: Any, path: Path) -> None:
        done.append(1)
        real_save(at, path)

    monkeypatch.setattr(statistics._State, "save", counting)
    ranges = stored_ranges(own, own.root, graph, of, check_algorithm("entropy", OPENVINO))
    assert Ranges.from_json(ranges.path.read_text()) == whole
    assert len(done) == 2, "frames that were done were done again"
    assert list((own.root / "calibration").glob("state-*")) == []


def test_unknown_words_are_refused(store: Store, of: CalibrationSet) -> None:
    with pytest.raises(InputError, match=r"Unknown calibration algorithm 'minmx', did you mean 'minmax'"):
        quantised(store, of, algorithm="minmx")
    with pytest.raises(InputError, match=r"Unknown repair 'equalization', did you mean 'equalisation'"):
        quantised(store, of, repairs=("equalization",))
    with pytest.raises(InputError, match=r"entropy minimises errors on a grid of integers.*take minmax"):
        quantised(store, of, form="fp8", algorithm="entropy")
    assert check_repairs([*reversed(REPAIRS), "bias-correction"]) == REPAIRS


def test_each_form_has_its_repairs_unless_somebody_chooses(
    tmp_path: Path, of: CalibrationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    meant = {name: repairs_for(form, (DEFAULT,)) for name, form in FORMS.items()}
    assert meant == {
        name: (EQUALISATION, ROUNDING) if name == "tensorrt" else (ROUNDING,) for name in FORMS
    }  # fmt: skip
    assert repairs_for(FORMS["tensorrt"], (DEFAULT, ROUNDING)) == (EQUALISATION, ROUNDING)
    assert repairs_for(FORMS["tensorrt"], ()) == ()

    def in_groups(*_: object) -> None:
        raise InputError("a convolution in groups")

    monkeypatch.setattr("unblur.pipeline.making.eight_bits.equalise", in_groups)
    rounded = quantised(store, of, form="tensorrt", repairs=(ROUNDING,))
    assert quantised(store, of, form="tensorrt", repairs=(DEFAULT,)).digest == rounded.digest, "it is left out"
    with pytest.raises(InputError, match="in groups"):
        quantised(store, of, form="tensorrt", repairs=(EQUALISATION,))
    monkeypatch.setattr("unblur.pipeline.making.eight_bits.demand_roundable", in_groups)
    plain = quantised(store, of, form="tensorrt")
    assert quantised(store, of, form="tensorrt", repairs=(DEFAULT,)).digest == plain.digest
