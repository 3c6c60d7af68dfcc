"""The formats that files keep: a change of one is made on purpose, and seen in a review.

What unblur writes now is held against the literal files beside this one: names of keys, their nesting, the types of
their values, and the numbers of the formats themselves; everything that varies is masked. After a change that is
meant, this writes them anew (raise the format's number too where an older unblur would read it wrongly):

    UNBLUR_WRITE_GOLDEN=1 python -m pytest tests/golden -n 0
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unblur.building.engine import BuildOptions, build_engine
from unblur.calibration.manifest import Crop, Entry, write_manifest
from unblur.compare.candidates import Candidate
from unblur.compare.comparison import Settings, compare_engines
from unblur.compare.judge.budgets import Budget
from unblur.compare.load import load_report, schema
from unblur.compare.measure.frames import find_frames
from unblur.compare.tell.write import write_report
from unblur.core.errors import InputError, MissingRuntimeError
from unblur.engines.catalogue import REFERENCE, open_engine
from unblur.graphs.rewrites.ranges import Range, Ranges
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.metrics.stopwatch import Protocol
from unblur.networks.checkpoints import Checkpoint
from unblur.pipeline.store import Recipe, Store

HERE = Path(__file__).parent
SCHEMA = HERE.parents[1] / "compare" / "report.schema.json"

LITERAL = frozenset({"form", "format"})
"""Keys whose values are the format."""

TABLES = frozenset({"versions", "toolchain", "ranges", "convolutions_run_in", "description", "budgets", "targets"})
"""Keys of tables whose own keys are names of packages, tensors, engines and the like."""

VARIES = frozenset({"gpu", "load_before", "load", "clock_mhz", "temperature_c", "gpus", "stolen_s", "throttled",
                    "waited_s"})  # fmt: skip
"""Keys whose values depend on what the machine has."""


@pytest.fixture(scope="module", autouse=True)
def a_switch() -> Iterator[None]:
    """Of those that a machine may have set or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "passive")
        yield


def shape(value: Any, key: str = "") -> Any:
    """A value with everything masked that is not its format."""
    if key in VARIES:
        return "whatever the machine has"
    if key in LITERAL:
        return value
    if isinstance(value, dict):
        if key in TABLES:
            return {"<name>": merged([shape(item) for item in value.values()])}
        return {name: shape(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [merged([shape(item) for item in value])] if value else []
    names = {bool: "true or false", str: "text", int: "number", float: "number", type(None): "null"}
    return names[type(value)]


def merged(shapes: list[Any]) -> Any:
    """One shape that says of several what any of them has."""
    first, *others = shapes or ["nothing"]
    for other in others:
        if isinstance(first, dict) and isinstance(other, dict):
            keys = [*first, *(key for key in other if key not in first)]
            first = {key: merged([each[key] for each in (first, other) if key in each]) for key in keys}
        elif isinstance(first, list) and isinstance(other, list):
            first = [merged([*first, *other])] if first or other else []
        elif first != other:
            known = first["any of"] if isinstance(first, dict) and set(first) == {"any of"} else [first]
            first = {"any of": sorted([*known, *([] if other in known else [other])], key=str)}
    return first


def hold(name: str, found: str, folder: Path = HERE) -> None:
    """The text is the golden file's; written anew where that was asked for."""
    path = folder / name
    if os.environ.get("UNBLUR_WRITE_GOLDEN"):
        path.write_text(found)
    assert path.read_text() == found, f"{path}: if this change is meant, see the docstring of this file"


def hold_shape(name: str, values: Any) -> None:
    hold(name, json.dumps(shape(values), indent=1, ensure_ascii=False) + "\n")


def test_a_change_of_a_format_is_seen_and_another_value_is_not() -> None:
    before = {"format": 1, "rows": [{"a": 1, "b": None}, {"a": 2.5, "b": "x"}], "versions": {"torch": "2"}}
    same = {"format": 1, "rows": [{"a": 7, "b": "y"}, {"a": 0, "b": None}], "versions": {"numpy": "1", "onnx": "3"}}
    assert shape(before) == shape(same)
    for change in (
        {"format": 2}, {"rows": [{"a": 1}]}, {"rows": [{"a": "1", "b": None}]}, {"rows": []}, {"more": 1},
        {"versions": {"torch": 2}},
    ):  # fmt: skip
        assert shape(before | change) != shape(before)


@pytest.fixture
def written(tiny: Checkpoint, tmp_path: Path) -> Path:
    """The folder of a report with every part: budgets, latency, truth, a failed frame, an engine that is missing."""
    for k in range(2):
        for folder, frame in zip(("blurred", "sharp"), synthetic_pair(k, 32, 48), strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_picture(tmp_path / folder / f"{k}.png", Picture(frame), frame)
    for folder in ("blurred", "sharp"):
        (tmp_path / folder / "bad.png").write_bytes(b"?")

    def missing(_: object) -> Any:
        raise MissingRuntimeError("not here")

    engines = [Candidate("twin", lambda _: open_engine(REFERENCE, tiny, None, 1)), Candidate("absent", missing)]
    quick = Protocol(rounds=2, warmup_window=1, warmup_rounds_max=1, settle_ms=0)
    settings = Settings(1, quick, budgets={"*": Budget(fidelity_db_min=1)}, skip_missing=True, waterfall=True)
    report = compare_engines(tiny, engines, find_frames(tmp_path / "blurred", tmp_path / "sharp"), settings)
    write_report(report, tmp_path / "report")
    return tmp_path / "report"


def test_report(written: Path) -> None:
    hold_shape("report.json", json.loads((written / "report.json").read_text()))


def test_the_schema_of_reports() -> None:
    hold("report.schema.json", json.dumps(schema(), indent=1) + "\n", SCHEMA.parent)


def test_a_report_is_read_as_it_was_written_and_otherwise_refused(written: Path, tmp_path: Path) -> None:
    report = load_report(written)
    assert load_report(written / "report.json") == report
    values = json.loads((written / "report.json").read_text())
    assert report.to_json() == values
    assert {engine.name for engine in report.engines} == {"torch", "twin", "absent"}
    broken = tmp_path / "broken.json"
    for change, words in (
        ({"form": "unblur comparison 0"}, "no report of a comparison: its form is 'unblur comparison 0'"),
        ({"machine": 3}, "no whole report: machine: "),
        ({"surprise": 1}, "no whole report: surprise: "),
        ({"engines": [{"name": "x"}]}, r"no whole report: engines\.0\.is_reference: "),
    ):
        broken.write_text(json.dumps(values | change))
        with pytest.raises(InputError, match=words):
            load_report(broken)
    quality = values["engines"][1]["frames"][0]["quality"] or values["engines"][1]["frames"][0]["fidelity"]
    quality["ssim_per_channel" if "ssim_per_channel" in quality else "tensor_max_error"] = float("nan")
    broken.write_text(json.dumps(values))
    with pytest.raises(InputError, match="Input should be a finite number"):
        load_report(broken)
    broken.write_text("[]")
    with pytest.raises(InputError, match="its form is None"):
        load_report(broken)
    broken.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        load_report(broken)
    with pytest.raises(InputError, match="cannot be read"):
        load_report(tmp_path / "none.json")


def test_the_committed_reports_are_of_this_format() -> None:
    folders = sorted(path.parent for path in (HERE.parents[1] / "compare/baselines").glob("comparison-*/report.json"))
    assert folders
    for folder in folders:
        assert load_report(folder).engines


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_report_that_could_not_be_read_is_not_written(written: Path, tmp_path: Path) -> None:
    wrong = load_report(written).model_copy(update={"network": 3})
    with pytest.raises(InputError, match="This report is no whole report: network: "):
        write_report(wrong, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.tensorrt_rtx
def test_engine_manifest(fixed_graph: Path, tmp_path: Path) -> None:
    built = build_engine(fixed_graph, tmp_path / "tiny.engine", BuildOptions("fp16", targets=("sm89",)))
    hold_shape("engine-manifest.json", json.loads(built.path.with_name("tiny.engine.json").read_text()))


def test_recipe_of_the_store(tmp_path: Path) -> None:
    made = Store(tmp_path).make(
        Recipe("graphs", {"height": 48}, {"checkpoint": "0" * 64}, machine_bound=True),
        "tiny.onnx",
        lambda path: path.write_bytes(b"graph"),
    )
    values = json.loads(made.path.with_name(made.path.name + ".recipe.json").read_text())
    assert values["recipe"]["toolchain"]["unblur_source"]
    hold_shape("recipe.json", values)


def test_ranges() -> None:
    ranges = Ranges("entropy s8", {"input": Range(-0.5, 0.5), "BAM_1/Conv": Range(0.0, float(np.float32(1.1)))})
    hold("ranges.json", ranges.to_json())
    assert Ranges.from_json((HERE / "ranges.json").read_text()) == ranges


def test_calibration_manifest(tmp_path: Path) -> None:
    about = {"scene": 'a "quoted" scene', "brightness": 0.25, "sharpness": 0.125, "fingerprint": "00ff00ff00ff00ff"}
    entries = [
        Entry(crop=Crop(height=256, width=320, top=8, left=16), path="a/ä.png", sha256="0" * 64, **about),
        Entry(crop=Crop(height=256, width=256), seed=22, generator=1, **about),
    ]
    write_manifest(tmp_path / "frames.toml", entries, ["a/ä.png"], "One line.\nAnother.")
    text = (tmp_path / "frames.toml").read_text()
    hold("calibration-manifest.toml", text)
    assert [Entry.model_validate(frame) for frame in tomllib.loads(text)["frames"]] == entries
