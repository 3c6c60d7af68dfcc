"""The pixel contract: exact round trips, exact rounding, one rule for odd sizes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pixels import BGR

from unblur.core.errors import InputError
from unblur.images.contract import CONTRACTS, PixelContract, parse_contract

frames = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda hw: arrays(np.uint8, (*hw, 3)))
ranges = st.tuples(st.floats(-20, 20), st.floats(0.05, 300)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@st.composite
def contracts(draw: st.DrawFn) -> PixelContract:
    dtype = draw(st.sampled_from(["float32", "uint8"]))
    low, high = (0.0, 255.0) if dtype == "uint8" else draw(ranges)
    return PixelContract(
        channel_order=draw(st.sampled_from(["rgb", "bgr"])),
        layout=draw(st.sampled_from(["nchw", "nhwc"])),
        dtype=dtype,
        low=low,
        high=high,
        multiple=draw(st.sampled_from([1, 2, 3, 4, 8, 32])),
        padding=draw(st.sampled_from(["edge", "reflect"])),
    )


@given(frames, contracts())
def test_decode_undoes_encode(frame: np.ndarray, contract: PixelContract) -> None:
    tensor = contract.encode(frame)
    assert str(tensor.dtype) == contract.dtype
    assert tensor.flags.c_contiguous
    back = contract.decode(tensor, *frame.shape[:2])
    assert back.dtype == np.uint8
    assert np.array_equal(back, frame)


@given(contracts())
def test_every_byte_survives_every_range(contract: PixelContract) -> None:
    frame = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(contract.decode(contract.encode(frame), 16, 16), frame)


@given(contracts())
def test_json_round_trip(contract: PixelContract) -> None:
    assert PixelContract.from_json(contract.to_json()) == contract


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 4, 32]))
def test_padded_size_is_the_smallest_multiple(height: int, width: int, multiple: int) -> None:
    padded = replace(BGR, multiple=multiple).padded_size(height, width)
    for have, got in zip((height, width), padded, strict=True):
        assert got % multiple == 0
        assert have <= got < have + multiple


def test_the_published_tensor_bit_by_bit() -> None:
    """cv2's BGR, /255, -0.5, channels first, float32."""
    frame = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    expected = (frame[..., ::-1].astype(np.float32) / np.float32(255) - np.float32(0.5)).transpose(2, 0, 1)[None]
    assert np.array_equal(BGR.encode(frame), expected)


def test_odd_sizes_are_padded_right_and_bottom_by_the_edge_and_cropped() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (3, 5, 3), np.uint8)
    contract = BGR.as_uint8()
    tensor = contract.encode(frame)[0]
    assert tensor.shape == (4, 6, 3)
    assert np.array_equal(tensor[:3, :5], frame)
    assert np.array_equal(tensor[3, :5], frame[2])
    assert np.array_equal(tensor[:3, 5], frame[:, 4])
    assert np.array_equal(tensor[3, 5], frame[2, 4])
    tensor = tensor.copy()
    tensor[3, :], tensor[:, 5] = 7, 9  # the padding must not come back
    assert np.array_equal(contract.decode(tensor[None], 3, 5), frame)


def test_reflect_padding_leaves_the_edge_out() -> None:
    frame = np.arange(5 * 3, dtype=np.uint8).reshape(1, 5, 3).repeat(2, axis=0)
    contract = replace(BGR.as_uint8(), padding="reflect", multiple=4)
    tensor = contract.encode(frame)[0]
    assert np.array_equal(tensor[0, 5:], frame[0, [3, 2, 1]])


def test_even_sizes_are_not_padded() -> None:
    frame = np.random.default_rng(2).integers(0, 256, (4, 6, 3), np.uint8)
    assert BGR.encode(frame).shape == (1, 3, 4, 6)


def test_channel_order_and_layout() -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 1] = (255, 0, 51)  # red 255, blue 51
    bgr = replace(BGR, low=0, high=1).encode(frame)
    assert bgr[0, :, 0, 1] == pytest.approx([0.2, 0, 1])
    rgb = replace(BGR, channel_order="rgb", layout="nhwc", low=0, high=1).encode(frame)
    assert rgb.shape == (1, 2, 2, 3)
    assert rgb[0, 0, 1] == pytest.approx([1, 0, 0.2])


def decoded(contract: PixelContract, *values: float) -> list[int]:
    tensor = np.zeros((1, 3, 1, len(values)), np.float32)
    tensor[0, 0, 0] = values
    return contract.decode(tensor, 1, len(values))[0, :, 0].tolist()


BYTES = PixelContract(channel_order="rgb", low=0, high=255, multiple=1)
UNIT = replace(BYTES, low=-0.5, high=0.5)


def test_halves_go_up_and_their_neighbours_do_not() -> None:
    """With low 0 and high 255 every half is exact in float32: half to even (numpy's rint) fails at each even level."""
    halves = np.arange(255, dtype=np.float32) + np.float32(0.5)
    assert decoded(BYTES, *halves) == list(range(1, 256))
    below = np.nextafter(halves[1:], np.float32(0))  # 0.5's own neighbour is lost in torchvision's float32 sum too
    assert decoded(BYTES, *below) == list(range(1, 255))


def test_the_one_exact_half_of_the_published_range_goes_up() -> None:
    assert decoded(UNIT, 0.0, -1e-6) == [128, 127]


@given(st.floats(-0.5, 0.5, width=32))
@settings(max_examples=300)
def test_rounding_is_the_nearest_level(value: float) -> None:
    level = (Fraction(value) + Fraction(1, 2)) * 255
    assert abs(decoded(UNIT, value)[0] - level) <= Fraction(1, 2) + Fraction(1, 30_000)  # float32 next to a tie


def test_values_outside_the_range_are_clamped() -> None:
    assert decoded(UNIT, -0.51, -40, -3e38, 0.51, 40, 3e38) == [0, 0, 0, 255, 255, 255]
    assert decoded(BYTES, -1, 256, 1e9) == [0, 255, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        decoded(UNIT, 0, value)


def test_nan_in_the_padding_alone_is_cropped_away() -> None:
    tensor = BGR.encode(np.zeros((3, 4, 3), np.uint8))
    tensor[:, :, 3] = np.nan
    assert not BGR.decode(tensor, 3, 4).any()


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_what_is_no_frame_is_refused(frame: np.ndarray) -> None:
    with pytest.raises(InputError, match="read_picture"):
        BGR.encode(frame)


@pytest.mark.parametrize(
    "tensor",
    [
        np.zeros((1, 3, 2, 4), np.float32),  # half the height
        np.zeros((1, 4, 4, 3), np.float32),  # nhwc
        np.zeros((2, 3, 4, 4), np.float32),
        np.zeros((3, 4, 4), np.float32),
        np.zeros((1, 3, 4, 4), np.uint8),
    ],
)
def test_an_output_of_another_shape_or_type_is_refused(tensor: np.ndarray) -> None:
    with pytest.raises(InputError, match="export it again"):
        BGR.decode(tensor, 4, 4)


def test_half_precision_output_is_taken_as_it_is() -> None:
    contract, frame = BGR, np.full((2, 2, 3), 200, np.uint8)
    assert np.array_equal(contract.decode(contract.encode(frame).astype(np.float16), 2, 2), frame)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"channel_order": "grb"}, "channel_order"),
        ({"layout": "chw"}, "layout"),
        ({"dtype": "float16"}, "dtype"),
        ({"padding": "wrap"}, "padding"),
        ({"multiple": 0}, "multiple"),
        ({"multiple": 2.0}, "multiple"),
        ({"multiple": True}, "multiple"),
        ({"multiple": 10**9}, "from 1 to 1024"),
        ({"low": -(10**400)}, "low"),
        ({"low": 0.5, "high": 0.5}, "low"),
        ({"low": 1, "high": 0}, "low"),
        ({"low": float("nan")}, "low"),
        ({"high": float("inf")}, "low"),
        ({"low": "0"}, "low"),
        ({"low": 1e6, "high": 1e6 + 1}, "256 levels"),
        ({"dtype": "uint8"}, "bytes"),
    ],
)
def test_an_unsound_contract_is_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        replace(BGR, **values)
    with pytest.raises(InputError, match=word):
        PixelContract.from_json(json.dumps({**asdict(BGR), **values}))


@pytest.mark.parametrize(
    "text",
    ["", "x", "null", "3", "[]", "{}", '"bgr"', '{"channel_order": "bgr"}', "[" * 100_000,
     json.dumps({**asdict(BGR), "gamma": 2.2})],
)  # fmt: skip
def test_foreign_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="Not a pixel contract"):
        PixelContract.from_json(text)


def test_as_uint8_is_rgb_bytes_channels_last_with_the_same_padding() -> None:
    contract = replace(BGR, multiple=8, padding="reflect").as_uint8()
    assert contract == PixelContract(
        channel_order="rgb", layout="nhwc", dtype="uint8", low=0, high=255, multiple=8, padding="reflect"
    )


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_named_contract_takes_and_gives_every_byte(name: str) -> None:
    contract = parse_contract(name)
    assert (contract.name, contract.multiple) == (name, 1)
    frame = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(contract.decode(contract.encode(frame), 16, 16), frame)
    assert parse_contract(f"{name}/8").padded_size(9, 16) == (16, 16)
    assert parse_contract(f"{name}/8").name == f"{name}/8"


def test_rgb01_is_what_most_tools_expect() -> None:
    frame = np.zeros((1, 1, 3), np.uint8)
    frame[0, 0] = (255, 51, 0)
    tensor = parse_contract("rgb01").encode(frame)
    assert tensor.dtype == np.float32
    assert tensor.reshape(-1).tolist() == [1.0, np.float32(0.2), 0.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [("rgb1", "did you mean"), ("rgb01/x", "behind the stroke"), ("rgb01/0", "multiple is 0"), ("", "known: rgb01")],
)
def test_an_unknown_name_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_contract(text)


def test_pixels_of_a_network() -> None:
    contract = BGR
    assert contract.as_pixels("float") == contract
    assert contract.as_pixels("uint8") == contract.as_uint8()
    assert contract.as_pixels("rgb01") == replace(BGR, channel_order="rgb", low=0.0, high=1.0)
