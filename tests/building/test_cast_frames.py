"""What a cast is judged on: small graphs whole, large ones by crops, and always by something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unblur.building.cast_frames import CastFrames, choose_frames
from unblur.core.errors import InputError
from unblur.graphs.file import read_graph
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair

HUGE = 4 * 10**12
"""Multiply-accumulates of BANet-18M at 720p."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(5):
        frame = synthetic_pair(seed, 100, 300, "heldout")[0]
        write_picture(folder / f"{seed}.png", Picture(frame), frame)
    return folder


def told(chosen: tuple[CastFrames, ...]) -> list[tuple[str, set[tuple[int, ...]], bool]]:
    return [(one.source, {frame.shape[:2] for frame in one.frames}, one.model is not None) for one in chosen]


def test_a_small_graph_is_judged_by_whole_frames(fixed_graph: Path, pictures: Path) -> None:
    source = read_graph(fixed_graph)
    assert told(choose_frames(None, source, (48, 64), 10**9)) == [("1 frame of 48x64, drawn", {(48, 64)}, False)]
    assert told(choose_frames(pictures, source, (48, 64), 10**9)) == [
        ("4 frames of 48x64, from 5 in pictures", {(48, 64)}, False)
    ]


def test_a_large_graph_is_judged_by_crops_and_by_a_whole_frame_where_there_are_pictures(
    fixed_graph: Path, dynamic_graph: Path, pictures: Path
) -> None:
    source = read_graph(fixed_graph)
    assert told(choose_frames(None, source, (100, 300), HUGE, lambda: dynamic_graph)) == [
        ("4 crops of 256x256 through the dynamic graph, drawn", {(256, 256)}, True)
    ]
    text = "crops of 48x64 through a smaller graph of the same weights"
    drawn = choose_frames(None, source, (100, 300), HUGE, lambda: fixed_graph)
    assert told(drawn) == [(f"4 {text}, drawn", {(48, 64)}, True)]
    assert len({frame.tobytes() for frame in drawn[0].frames}) == 4
    assert told(choose_frames(pictures, source, (100, 300), HUGE, lambda: fixed_graph)) == [
        (f"4 {text}, from 5 in pictures", {(48, 64)}, True),
        ("1 whole frame of 100x300, from pictures", {(100, 300)}, False),
    ]


def test_a_large_graph_of_unknown_weights_is_judged_by_one_whole_frame(fixed_graph: Path, pictures: Path) -> None:
    source = read_graph(fixed_graph)
    assert told(choose_frames(None, source, (100, 300), HUGE)) == [
        ("1 whole frame of 100x300, drawn", {(100, 300)}, False)
    ]
    assert told(choose_frames(pictures, source, (100, 300), HUGE)) == [
        ("1 whole frame of 100x300, from pictures", {(100, 300)}, False)
    ]


def test_a_graph_of_every_size_is_its_own_smaller_graph(dynamic_graph: Path, pictures: Path) -> None:
    source = read_graph(dynamic_graph)
    assert told(choose_frames(None, source, (720, 1280), None)) == [
        ("1 frame of 256x256 through the dynamic graph, drawn", {(256, 256)}, False)
    ]
    assert told(choose_frames(pictures, source, (64, 300), None)) == [
        ("4 crops of 64x256 through the dynamic graph, from 5 in pictures", {(64, 256)}, False),
        ("1 whole frame of 64x300, from pictures", {(64, 300)}, False),
    ]


def test_a_smaller_graph_of_other_weights_judges_nothing(fixed_graph: Path) -> None:
    source = replace(read_graph(fixed_graph), checkpoint="0" * 64)
    with pytest.raises(InputError, match="of other weights or pixels"):
        choose_frames(None, source, (100, 300), HUGE, lambda: fixed_graph)
