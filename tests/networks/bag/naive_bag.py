"""A second BAG, deliberately naive, to hold `unblur.networks.bag` against: loops in numpy float64, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from naive_banet import Map, convolve, sigmoid
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[np.float64]]


def normalise(x: Map) -> Map:
    """Each channel less its mean, over the root of its mean square and 1e-5: sums of Python's, pixel by pixel."""
    out = np.zeros_like(x)
    for c, channel in enumerate(x):
        values = [float(v) for v in channel.flat]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
        out[c] = (channel - mean) / math.sqrt(variance + 1e-5)
    return out


def relu(x: Map) -> Map:
    return np.where(x > 0, x, 0.0)


def reflected(x: Map, border: int) -> Map:
    """Pixels beyond the edge are those before it, the edge itself not doubled: -1 is 1, H is H - 2."""

    def inside(k: int, length: int) -> int:
        return -k if k < 0 else (2 * (length - 1) - k if k >= length else k)

    _, height, width = x.shape
    out = np.zeros((x.shape[0], height + 2 * border, width + 2 * border))
    for i in range(height + 2 * border):
        for j in range(width + 2 * border):
            out[:, i, j] = x[:, inside(i - border, height), inside(j - border, width)]
    return out


def stamp(x: Map, weight: NDArray[np.float64], bias: NDArray[np.float64], stride: int, pad: int) -> Map:
    """Transposed convolution of `stride` times the size: pixel (i, j) adds its stamp at (i s - pad, j s - pad)."""
    inputs, outputs, taps, _ = weight.shape
    _, height, width = x.shape
    out = np.zeros((outputs, stride * height, stride * width))
    for c in range(inputs):
        for i in range(height):
            for j in range(width):
                for a in range(taps):
                    for b in range(taps):
                        row, column = i * stride - pad + a, j * stride - pad + b
                        if 0 <= row < stride * height and 0 <= column < stride * width:
                            out[:, row, column] += x[c, i, j] * weight[c, :, a, b]
    return out + bias[:, None, None]


def module(u: Map, weights: Weights, name: str) -> Map:
    """Dense block unit, transition, spatial attention."""

    def conv(y: Map, part: str, pad: int) -> Map:
        return convolve(y, weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"], pad=(pad, pad))

    f = u
    for k in range(sum(key.startswith(f"{name}.dense.") for key in weights) // 2):
        f = np.concatenate([f, relu(normalise(conv(f, f"dense.{k}", 1)))])
    f = relu(normalise(conv(f, "transition", 0)))
    pooled = np.stack([f.max(axis=0), f.sum(axis=0) / len(f)])
    return sigmoid(conv(pooled, "attention.conv", 3)) * f


def bag(x: Map, weights: Weights) -> Map:
    """(3, H, W) -> (3, H, W), not clamped."""

    def pair(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    y = relu(normalise(convolve(reflected(x, 3), *pair("encoder.0"))))
    y = relu(normalise(convolve(y, *pair("encoder.1"), pad=(1, 1), stride=2)))
    first = u = y = relu(normalise(convolve(y, *pair("encoder.2"), pad=(1, 1), stride=2)))
    for k in range(len({key.split(".")[1] for key in weights if key.startswith("blocks.")})):
        y = module(u, weights, f"blocks.{k}") + u
        u = y + first
    y = relu(normalise(stamp(y, *pair("decoder.0"), stride=2, pad=1)))
    y = relu(normalise(stamp(y, *pair("decoder.1"), stride=2, pad=1)))
    return x + np.tanh(stamp(y, *pair("decoder.2"), stride=1, pad=3))


def critic(x: Map, weights: Weights) -> Map:
    """(3, H, W) -> (1, h, w)."""
    y = x
    for k, stride in enumerate((2, 2, 2, 1, 1)):
        y = convolve(y, weights[f"layers.{k}.weight"], weights[f"layers.{k}.bias"], pad=(2, 2), stride=stride)
        y = normalise(y) if 0 < k < 4 else y
        y = np.where(y >= 0, y, 0.2 * y) if k < 4 else y
    return y
