"""results.csv: what is in it, that it reads back, and that nothing in a name escapes its cell."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_frames import save_frame

from unblur.compare import load_results
from unblur.compare.comparison import compare_engines
from unblur.compare.measure.frames import find_frames
from unblur.compare.tell.results import HEADER, INPUT, render_results, result_rows
from unblur.compare.tell.write import write_report
from unblur.core.console import printable
from unblur.core.errors import InputError
from unblur.engines.catalogue import open_engine
from unblur.engines.runner import restore_frame
from unblur.images.files import read_picture

HOSTILE = ('=HYPERLINK("http:evil","b"), c.png', "-1+1.png", "a\r\nb;,c.png", "@x.png", "'\"\t.png", "\udcff.png")


@pytest.fixture
def report(checkpoint, pictures, settings, faulty):
    """Three frames; of a.png the truth is what the reference makes of it."""
    save_frame(pictures[0] / "c.png", seed=3)
    save_frame(pictures[1] / "c.png", seed=3, noise=0)
    with open_engine("torch", checkpoint, None, threads=1) as runner:
        Image.fromarray(restore_frame(runner, read_picture(pictures[0] / "a.png").frame)).save(pictures[1] / "a.png")
    engines = [faulty("off", lambda t: np.clip(t + 0.05, -0.5, 0.5)), faulty("same", lambda t: t)]
    return compare_engines(checkpoint, engines, find_frames(*pictures), replace(settings, protocol=None))


def test_a_row_for_each_engine_and_frame_reads_back(report, tmp_path: Path) -> None:
    written = write_report(report, tmp_path / "report")
    rows = load_results(tmp_path / "report")
    assert rows == load_results(written.results) == result_rows(report)
    assert [(row.engine, row.frame) for row in rows] == [
        (engine, frame) for engine in (INPUT, "torch", "off", "same") for frame in ("a.png", "c.png", "night/b.png")
    ]
    by_place = {(row.engine, row.frame): row for row in rows}
    off, torch, blurred = (by_place[name, "c.png"] for name in ("off", "torch", INPUT))
    assert off.gain_db == off.psnr_db - blurred.psnr_db
    assert off.psnr_loss_db == torch.psnr_db - off.psnr_db
    assert off.fidelity_db == report.engines[1].frames[1].fidelity.tensor_db
    assert blurred.fidelity_db is None
    assert by_place["torch", "a.png"].psnr_db == math.inf
    assert by_place["off", "a.png"].psnr_loss_db == math.inf
    assert by_place["same", "a.png"].psnr_loss_db == 0
    assert by_place["off", "night/b.png"].width == 23
    text = written.results.read_text()
    assert ",Infinity," in text
    assert "nan" not in text.lower()
    assert {len(row) for row in csv.reader(text.splitlines())} == {len(HEADER)}


def test_hostile_names_stay_in_their_cells(report, tmp_path: Path) -> None:
    engine = report.engines[1]
    frames = tuple(engine.frames[k % 3].model_copy(update={"frame": name}) for k, name in enumerate(HOSTILE))
    named = engine.model_copy(update={"frames": frames, "name": "@engine"})
    hostile = report.model_copy(update={"engines": (report.engines[0], named), "blurred": ()})
    file = tmp_path / "results.csv"
    file.write_text(render_results(hostile), "utf-8", newline="")
    rows = load_results(file)
    assert [row.frame for row in rows[3:]] == [printable(name) for name in HOSTILE]
    assert {row.engine for row in rows[3:]} == {"@engine"}
    with file.open(newline="") as opened:  # as a spreadsheet sees it: no cell of text is a formula
        cells = [cell for row in csv.DictReader(opened) for cell in (row["engine"], row["frame"])]
    assert not [cell for cell in cells if cell[0] in "=+-@"]


@pytest.mark.parametrize(("old", "new", "message"), [
    ("engine,frame", "frame,engine", "its header"),
    (",20,24,", ",20.0,24,", "row 2"),
    (",20,24,", ",nan,24,", "row 2"),
    ("Infinity", "inf", "row 5: 'inf'"),
    ("Infinity", "NaN", "row 5"),
    (",20,24,", ",20,", "row 2: 11 cells"),
    (",20,24,", ",020,24,", "row 2: '020' is written '20'"),
])  # fmt: skip
def test_a_damaged_table_is_refused(report, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = render_results(report)
    assert old in text
    (tmp_path / "results.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load_results(tmp_path)


def test_without_truth_cells_are_empty(checkpoint, pictures, settings, faulty) -> None:
    bare = replace(settings, protocol=None)
    report = compare_engines(checkpoint, [faulty("x", lambda t: t)], find_frames(pictures[0]), bare)
    assert [row.psnr_db for row in result_rows(report)] == [None] * 4
    assert render_results(report).splitlines()[1].endswith("Infinity,Infinity,0.0,,,,,")
