"""The speed benchmark on fakes: every engine is a row, also the one that cannot run or is wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_frames import QUICK

from unblur.compare.candidates import Candidate
from unblur.compare.speed import SpeedReport, measure_speed
from unblur.compare.tell.speed import console_lines, tables_of, write_speed
from unblur.core.errors import CrashError, InputError, MissingRuntimeError
from unblur.engines.catalogue import open_engine


def test_rows_missing_engines_and_agreement(checkpoint, faulty, tmp_path: Path) -> None:
    def missing(size):
        raise MissingRuntimeError("bf16: no such instructions")

    opened = []

    def open_it(size):
        opened.append(size)
        return faulty("same", lambda t: t).open(size)

    engines = [Candidate("same", open_it), Candidate("bf16", missing), faulty("wrong", lambda t: t * 0)]
    report = measure_speed(checkpoint, engines, (15, 18), "random weights", threads=1, protocol=QUICK)
    assert opened == [(16, 18)]
    rows = tables_of(report)[0].rows
    assert [row["name"] for row in rows] == ["torch", "same", "bf16", "wrong"]
    assert rows[0]["speedup"] == "1.00×"
    assert rows[1]["agrees"] == "∞ dB"
    assert (rows[2]["precision"], rows[2]["median"]) == ("not measured", "–")
    assert float(rows[3]["agrees"].split()[0]) < 20
    assert all(float(rows[k]["whole"]) >= float(rows[k]["best"]) for k in (0, 1, 3))
    assert "bf16: not measured: no such instructions" in notes_of(report)

    path = write_speed(report, tmp_path / "speed")
    assert "not measured: no such instructions" in path.read_text()
    values = json.loads((tmp_path / "speed" / "report.json").read_text())
    assert values["engines"][1]["agreement_db"] == "Infinity"
    measured = [sample for sample in values["latency"]["samples"] if not sample["warmup"]]
    assert len(measured) == 3 * QUICK.rounds


def notes_of(report: SpeedReport) -> list[str]:
    return list(tables_of(report)[0].notes)


def test_the_busy_machine_is_told(checkpoint, faulty) -> None:
    report = measure_speed(checkpoint, [], (16, 16), "random weights", threads=1, protocol=QUICK)
    busy = report.model_copy(
        update={"latency": report.latency.model_copy(update={"load_before": 500.0, "before": None})}
    )
    idle = report.model_copy(update={"latency": report.latency.model_copy(update={"load_before": 0.1})})
    assert any("run was noisy (load 500.0" in note for note in notes_of(busy))
    assert not any("busy" in note for note in notes_of(idle))


def test_everything_that_can_be_asked_for_fits_80_columns(checkpoint, faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unblur.compare.measure.throughput.MOST", 6)  # turns of half a second tell a rate, not a row
    engines = [faulty("an-engine-of-quite-a-long-name", lambda t: t), faulty("same", lambda t: t)]
    report = measure_speed(
        checkpoint, engines, (16, 16), "random weights", threads=2, protocol=QUICK, paper=True, throughput=True,
        streams=engines[1:],
    )  # fmt: skip
    lines = console_lines(report, 80)
    assert max(map(len, lines)) <= 80
    text = " ".join(lines)
    assert "papers' loop" in text
    assert "2 engines of one thread" in text
    flow = report.engines[2].throughput
    assert flow is not None
    assert flow.streams is not None
    assert report.engines[1].throughput.streams is None


def test_crashed_engines_are_rows(checkpoint, faulty) -> None:
    def crash(tensor):
        raise CrashError("its process was ended by SIGSEGV")

    def cannot_open(size):
        raise CrashError("its process was ended by SIGILL")

    engines = [faulty("a", crash), Candidate("b", cannot_open), faulty("c", lambda t: t)]
    report = measure_speed(checkpoint, engines, (16, 16), "w", threads=1, protocol=QUICK)
    assert [bool(engine.latency) for engine in report.engines] == [True, False, False, True]
    notes = notes_of(report)
    assert "a: not measured: its process was ended by SIGSEGV" in notes
    assert "b: not measured: its process was ended by SIGILL" in notes


def test_engines_of_processes_of_their_own(checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unblur.compare.measure.throughput.MOST", 6)
    name = "torch-channels-last"
    apart = Candidate(name, lambda _: open_engine(name, checkpoint, None, 1, hang_s=60))
    report = measure_speed(
        checkpoint, [apart], (16, 16), "w", threads=1, protocol=QUICK, paper=True, throughput=True, hang_s=60
    )
    for engine in report.engines:
        assert engine.latency is not None
        assert engine.latency.description["process"] == "its own"
        assert engine.latency.paper is not None
        assert engine.throughput is not None
        assert min(engine.throughput.run_alone, engine.throughput.one_by_one, engine.throughput.overlapped) > 0


def test_an_engine_twice(checkpoint, faulty) -> None:
    engine = faulty("x", lambda t: t)
    with pytest.raises(InputError, match="once"):
        measure_speed(checkpoint, [engine, replace(engine)], (16, 16), "w", protocol=QUICK)
