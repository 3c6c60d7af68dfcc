"""Short sessions of latency, for which every engine is opened anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from small_frames import QUICK

from unblur.compare.candidates import Candidate, torch_reference
from unblur.compare.comparison import compare_engines
from unblur.compare.measure.frames import find_frames
from unblur.compare.measure.repeats import FEWEST, MOST, measure_repeats, short
from unblur.compare.tell.write import render_markdown
from unblur.core.errors import CrashError
from unblur.engines.runner import Runner

FRAMES = {"a": np.zeros((4, 4, 3), np.uint8)}


@pytest.fixture
def opened() -> list[str]:
    """Names of the engines that were opened, in turn."""
    return []


@pytest.fixture
def opener(faulty, opened) -> Callable[[str], Callable[[], Runner]]:
    def make(name: str) -> Callable[[], Runner]:
        def open_it() -> Runner:
            opened.append(name)
            runner: Runner = faulty(name, lambda tensor: tensor).open(None)
            return runner

        return open_it

    return make


def test_every_engine_is_opened_for_each_and_what_is_hopeless_is_given_up(opener, opened) -> None:
    openers = {name: opener(name) for name in ("torch", "near")}
    found = measure_repeats(openers, "torch", FRAMES, QUICK, 3, lambda so_far: len(so_far) == 2)
    assert opened == ["torch", "near"] * 2
    assert [len(one.latencies_ms("near")) for one in found] == [QUICK.rounds] * 2


def test_one_that_crashes_is_left_out_from_there_on_and_the_reference_ends_it(opener) -> None:
    def crash() -> Runner:
        raise CrashError("it fell")

    crashed: dict[str, str] = {}
    found = measure_repeats(
        {"torch": opener("torch"), "near": crash}, "torch", FRAMES, QUICK, 1, lambda _: False, crashed=crashed
    )
    assert crashed == {"near": "it fell"}
    assert found[0].latencies_ms("near") == []
    with pytest.raises(CrashError, match="The reference torch: it fell"):
        measure_repeats({"torch": crash}, "torch", FRAMES, QUICK, 1, lambda _: False)


def test_a_comparison_repeats_with_the_reference_apart(checkpoint, pictures, settings, opener, opened) -> None:
    reference = replace(torch_reference(checkpoint, 1), apart=opener("apart"))
    near = Candidate("near", lambda _: opener("near")())
    report = compare_engines(reference, [near], find_frames(*pictures), replace(settings, repeats=1))
    assert sorted(opened[-2:]) == ["apart", "near"]
    assert [{sample.name for sample in one.samples} for one in report.repeats] == [{"torch", "near"}]
    assert "Again in 1 short session(s), every engine opened anew" in render_markdown(report)


def test_a_session_lasts_some_seconds_where_so_many_rounds_are_enough() -> None:
    assert [short(ms).rounds for ms in (10.0, 250.0, 9000.0)] == [MOST, 12, FEWEST]
