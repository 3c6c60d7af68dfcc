"""Ranges: refused when they hold nothing sensible, the same after a trip through JSON, exact on constants."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unblur.core.errors import InputError
from unblur.graphs.rewrites.ranges import Range, Ranges, named_range

ENDS = st.floats(-(2.0**99), 2.0**99, width=32)


@pytest.mark.parametrize("ends", [(math.nan, 1.0), (0.0, math.inf), (-math.inf, 0.0), (1.0, 0.5)])
def test_what_is_no_range_is_refused_with_the_tensors_name(ends: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="'leaky_relu_3'"):
        named_range("leaky_relu_3", ends)
    with pytest.raises(InputError, match="'conv'"):
        Ranges.from_json(json.dumps({"format": 1, "algorithm": "a", "ranges": {"conv": ends}}))


@given(st.dictionaries(st.text(min_size=1), st.tuples(ENDS, ENDS).map(sorted), min_size=1))
def test_json_keeps_every_bit(ends: dict[str, list[float]]) -> None:
    ranges = Ranges("entropy s8", {name: Range(*pair) for name, pair in ends.items()})
    again = Ranges.from_json(ranges.to_json())
    assert again == ranges
    assert again.digest == ranges.digest


def test_the_digest_depends_on_everything() -> None:
    base = Ranges("minmax", {"x": Range(0, 1), "y": Range(0, 2)})
    others = [
        Ranges("entropy", base.by_tensor),
        Ranges("minmax", {"x": Range(0, 1)}),
        Ranges("minmax", {"x": Range(0, 1), "z": Range(0, 2)}),
        Ranges("minmax", {"x": Range(0, 1), "y": Range(0, np.nextafter(2, 3))}),
        Ranges("minmax", {"x": Range(-0.1, 1), "y": Range(0, 2)}),
    ]
    assert len({r.digest for r in [base, *others]}) == 6
    assert Ranges("minmax", {"y": Range(0, 2), "x": Range(0, 1)}).digest == base.digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Not a file of ranges"),
        ("[]", "keys format"),
        ('{"format": 1, "algorithm": "a", "ranges": {"x": [0, 1]}, "more": 1}', "keys format"),
        ('{"format": 2, "algorithm": "a", "ranges": {"x": [0, 1]}}', "format 2"),
        ('{"format": 1, "algorithm": 1, "ranges": {"x": [0, 1]}}', "algorithm is text"),
        ('{"format": 1, "algorithm": "a", "ranges": {"x": [0, "1"]}}', "two numbers"),
        ('{"format": 1, "algorithm": "a", "ranges": {}}', "no tensor"),
    ],
)
def test_foreign_files_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Ranges.from_json(text)


def test_a_tensor_that_was_not_measured_is_named() -> None:
    with pytest.raises(InputError, match="'y' has no measured range"):
        Ranges("minmax", {"x": Range(0, 1)}).of("y")


@given(ENDS)
def test_a_constant_survives_8_bits(c: float) -> None:
    constant = Range(c, c)
    scale = constant.symmetric_scale()
    assert scale > 0
    assert round(c / scale) * scale == pytest.approx(c, rel=1e-6, abs=1e-35)
    scale, zero = constant.affine()
    assert scale > 0
    assert (min(255, max(0, round(c / scale) + zero)) - zero) * scale == pytest.approx(c, rel=1e-6, abs=1e-35)


@given(st.tuples(ENDS, ENDS).map(sorted))
def test_zero_is_exact_and_the_ends_are_within_half_a_step(ends: list[float]) -> None:
    scale, zero = Range(*ends).affine()
    assert 0 <= zero <= 255
    for value in (min(ends[0], 0.0), 0.0, max(ends[1], 0.0)):
        level = min(255, max(0, round(value / scale) + zero))
        assert abs((level - zero) * scale - value) <= scale * 0.5000001
