"""Scores that are kept: what a comparison that was stopped runs again, and what it does not."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from small_frames import save_frame

from unblur.compare.candidates import Candidate
from unblur.compare.comparison import compare_engines
from unblur.compare.measure.frames import find_frames
from unblur.compare.measure.scores import Kept
from unblur.core.errors import ChangedError
from unblur.core.overlap import THREAD_NAMES

COUNT = 7


@pytest.fixture
def bench(faulty, settings, tmp_path):
    """Seven pinned pairs, settings that keep scores and show no picture, and what makes a candidate that counts."""
    for seed in range(COUNT):
        save_frame(tmp_path / "blurred" / f"{seed}.png", seed=seed)
        save_frame(tmp_path / "sharp" / f"{seed}.png", seed=seed, noise=0)
    frames = [frame.pinned() for frame in find_frames(tmp_path / "blurred", tmp_path / "sharp")]
    kept = Kept(tmp_path / "scores", {"torch": "t", "off": "o", "other": "p"})
    runs: Counter[str] = Counter()

    def engine(name: str, offset: float = 0.01, stop_at: int | None = None) -> Candidate:
        def fault(tensor):
            if runs[name] == stop_at:
                raise RuntimeError("the machine was switched off")
            runs[name] += 1
            return np.clip(tensor + offset, -0.5, 0.5)

        return faulty(name, fault)

    return frames, replace(settings, protocol=None, pictures=0, kept=kept), engine, runs


def test_a_comparison_that_was_killed_goes_on_where_it_was(checkpoint, bench) -> None:
    frames, settings, engine, runs = bench
    whole = compare_engines(checkpoint, [engine("off")], frames, replace(settings, kept=None))
    runs.clear()
    with pytest.raises(RuntimeError, match="switched off"):
        compare_engines(checkpoint, [engine("off", stop_at=5)], frames, settings)
    assert runs["off"] == 5
    kept = sum(1 for path in settings.kept.folder.iterdir() for _ in path.open())
    assert kept == 2 * 5  # each has a line of the reference and of the engine
    runs.clear()
    report = compare_engines(checkpoint, [engine("off")], frames, settings)
    assert runs["off"] == COUNT - 5
    assert report.model_copy(update={"created_utc": whole.created_utc}) == whole
    runs.clear()
    again = compare_engines(checkpoint, [engine("off")], frames, settings)
    assert runs["off"] == 0
    assert again.engines == whole.engines


def test_a_line_that_was_cut_short_is_run_again(checkpoint, bench) -> None:
    frames, settings, engine, runs = bench
    whole = compare_engines(checkpoint, [engine("off")], frames, settings)
    for path in settings.kept.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-30])
    for expected in (1, 0):
        runs.clear()
        assert compare_engines(checkpoint, [engine("off")], frames, settings).engines == whole.engines
        assert runs["off"] == expected


def test_one_more_engine_costs_its_own_runs(checkpoint, bench) -> None:
    frames, settings, engine, runs = bench
    first = compare_engines(checkpoint, [engine("off")], frames, settings)
    runs.clear()
    both = compare_engines(checkpoint, [engine("off"), engine("other", 0.02)], frames, settings)
    assert runs == {"other": COUNT}
    assert both.engines[:2] == first.engines
    assert both.engines[2].worst_fidelity_db == pytest.approx(34, abs=0.1)  # 20 log10(1 / 0.02) is 33.98


def test_scores_of_another_engine_frame_or_size_are_not_taken(checkpoint, bench, tmp_path) -> None:
    frames, settings, engine, runs = bench
    compare_engines(checkpoint, [engine("off")], frames, settings)
    for keys in ({"torch": "t", "off": "changed"}, {"torch": "changed", "off": "o"}):
        runs.clear()
        other = replace(settings, kept=Kept(settings.kept.folder, keys))
        compare_engines(checkpoint, [engine("off")], frames, other)
        assert runs["off"] == COUNT, keys
    runs.clear()
    save_frame(tmp_path / "sharp" / "3.png", seed=3, noise=1)
    changed = [frame.pinned() for frame in find_frames(tmp_path / "blurred", tmp_path / "sharp")]
    compare_engines(checkpoint, [engine("off")], changed, settings)
    assert runs["off"] == 1
    runs.clear()
    save_frame(tmp_path / "blurred" / "9.png", height=28, seed=9)  # engines are then opened for every size
    save_frame(tmp_path / "sharp" / "9.png", height=28, seed=9, noise=0)
    sizes = [frame.pinned() for frame in find_frames(tmp_path / "blurred", tmp_path / "sharp")]
    compare_engines(checkpoint, [engine("off")], sizes, settings)
    assert runs["off"] == COUNT + 1


def test_frames_that_are_shown_are_run_again_for_their_pictures_alone(checkpoint, bench) -> None:
    frames, settings, engine, runs = bench
    for offset, expected in ((0.0, 2), (0.01, COUNT)):  # two that are shown, then also the worst ten: all
        keeping = replace(settings, kept=Kept(settings.kept.folder, {"torch": "t", "off": str(offset)}))
        compare_engines(checkpoint, [engine("off", offset)], frames, keeping)
        runs.clear()
        shown = compare_engines(checkpoint, [engine("off", offset)], frames, replace(keeping, pictures=2))
        assert runs["off"] == expected
        fresh = compare_engines(checkpoint, [engine("off", offset)], frames, replace(settings, pictures=2, kept=None))
        assert shown.strips == fresh.strips != ()


def test_of_many_kept_frames_only_the_first_and_the_worst_are_run_again(checkpoint, bench, faulty, tmp_path) -> None:
    """Twenty frames, each worse than those before it: on the way each is the worst so far."""
    for seed in range(COUNT, 20):
        save_frame(tmp_path / "blurred" / f"{seed:02}.png", seed=seed)
    _, settings, _, _ = bench
    frames = [frame.pinned() for frame in sorted(find_frames(tmp_path / "blurred"), key=lambda one: int(one.path.stem))]
    runs: list[float] = []

    def worse(tensor):
        runs.append(float(tensor.mean()))
        return np.clip(tensor + 0.005 * len(runs), -0.5, 0.5)

    first = compare_engines(checkpoint, [faulty("off", worse)], frames, settings)
    order = list(runs)
    runs.clear()
    again = compare_engines(checkpoint, [faulty("off", worse)], frames, replace(settings, pictures=2))
    assert [order.index(one) for one in runs] == [0, 1, *range(10, 20)]
    assert again.engines == first.engines
    assert again.worst == first.worst
    assert [worst.frame for worst in again.worst] == [frame.name for frame in frames[:9:-1]]


def test_a_folder_that_changes_during_the_run_is_told(checkpoint, bench, faulty, tmp_path) -> None:
    frames, settings, _, _ = bench

    def meddle(tensor):
        save_frame(tmp_path / "blurred" / "6.png", seed=60)
        return tensor

    with pytest.raises(ChangedError, match=r"6\.png changed during the run"):
        compare_engines(checkpoint, [faulty("off", meddle)], frames, settings)


def test_nothing_works_beside_the_stopwatch(checkpoint, bench, faulty, settings) -> None:
    frames, keeping, _, _ = bench
    helpers: list[int] = []

    def count(tensor):
        helpers.append(sum(one.name.startswith(THREAD_NAMES) for one in threading.enumerate()))
        return tensor

    compare_engines(checkpoint, [faulty("off", count)], frames, replace(keeping, protocol=settings.protocol))
    assert all(helpers[:COUNT])  # frames are decoded and scored beside
    assert len(helpers) > COUNT
    assert not any(helpers[COUNT:])  # rounds of the latency
