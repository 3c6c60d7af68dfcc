"""A second BANet, deliberately naive, to hold `unblur.networks.banet` against.

Written from the published description with nothing but numpy float64 and loops: every tap of a convolution is a
shifted product, every pooling bin a Python integer division, every nearest index one float32 product. It shares no
line with the package and calls no torch operator, so a fault must be made twice to go unseen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]
"""One feature map, (channels, height, width)."""

Weights = Mapping[str, NDArray[np.float64]]


def convolve(
    x: Map,
    weight: NDArray[np.float64],
    bias: NDArray[np.float64] | None = None,
    pad: tuple[int, int] = (0, 0),
    stride: int = 1,
    dilation: int = 1,
) -> Map:
    """out[o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[c, i*s + a*d - pad, j*s + b*d - pad]."""
    outputs, inputs, taps_h, taps_w = weight.shape
    assert x.shape[0] == inputs
    height = (x.shape[1] + 2 * pad[0] - dilation * (taps_h - 1) - 1) // stride + 1
    width = (x.shape[2] + 2 * pad[1] - dilation * (taps_w - 1) - 1) // stride + 1
    room = np.zeros((inputs, x.shape[1] + 2 * pad[0], x.shape[2] + 2 * pad[1]))
    room[:, pad[0] : pad[0] + x.shape[1], pad[1] : pad[1] + x.shape[2]] = x
    out = np.zeros((outputs, height, width))
    for o in range(outputs):
        for c in range(inputs):
            for a in range(taps_h):
                for b in range(taps_w):
                    top, left = a * dilation, b * dilation
                    seen = room[c, top : top + stride * height : stride, left : left + stride * width : stride]
                    out[o] += weight[o, c, a, b] * seen[:height, :width]
        if bias is not None:
            out[o] += bias[o]
    return out


def convolve_transposed(x: Map, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> Map:
    """Kernel 4, stride 2, padding 1: each pixel adds its 4x4 stamp at (2i - 1, 2j - 1)."""
    inputs, outputs, taps, _ = weight.shape
    _, height, width = x.shape
    room = np.zeros((outputs, 2 * height + 2, 2 * width + 2))
    for c in range(inputs):
        for o in range(outputs):
            for a in range(taps):
                for b in range(taps):
                    room[o, a : a + 2 * height : 2, b : b + 2 * width : 2] += weight[c, o, a, b] * x[c]
    return room[:, 1:-1, 1:-1] + bias[:, None, None]


def bin_edges(length: int, bins: int) -> list[tuple[int, int]]:
    """Adaptive bins: bin i is [floor(i*L/n), ceil((i+1)*L/n)); neighbours overlap where n does not divide L."""
    return [(i * length // bins, -((-(i + 1) * length) // bins)) for i in range(bins)]


def nearest_index(length: int, bins: int) -> list[int]:
    """For each of `length` places the bin it reads: floor(j * float32(n/L)) with the product in float32."""
    scale = np.float32(bins) / np.float32(length)
    return [min(int(np.floor(np.float32(j) * scale)), bins - 1) for j in range(length)]


def pool_columns(f: Map, bins: int) -> Map:
    """(C, H, W) -> (C, H, bins): the mean of each bin of columns."""
    return np.stack([f[:, :, a:b].sum(axis=2) / (b - a) for a, b in bin_edges(f.shape[2], bins)], axis=2)


def pool_rows(f: Map, bins: int) -> Map:
    """(C, H, W) -> (C, bins, W): the mean of each bin of rows."""
    return np.stack([f[:, a:b, :].sum(axis=1) / (b - a) for a, b in bin_edges(f.shape[1], bins)], axis=1)


def leaky(x: Map) -> Map:
    return np.where(x >= 0, x, 0.2 * x)


def sigmoid(x: Map) -> Map:
    return 1 / (1 + np.exp(-x))


def attention(f: Map, weights: Weights, name: str) -> Map:
    """Strips of 1, 3, 5 and 7 bins both ways, fused to one mask; then a refined second mask."""
    _, height, width = f.shape
    levels = []
    for n in (1, 3, 5, 7):
        if n == 1:
            tall = convolve(pool_columns(f, 1), weights[f"{name}.conv_1_h.weight"], pad=(1, 0))
            wide = convolve(pool_rows(f, 1), weights[f"{name}.conv_1_w.weight"], pad=(0, 1))
        else:  # one kernel for both strips, not transposed
            tall = convolve(pool_columns(f, n), weights[f"{name}.conv_{n}.weight"], pad=(1, 1))
            wide = convolve(pool_rows(f, n), weights[f"{name}.conv_{n}.weight"], pad=(1, 1))
        level = np.zeros((tall.shape[0], height, width))
        for j, i in enumerate(nearest_index(width, n)):
            level[:, :, j] += tall[:, :, i]
        for j, i in enumerate(nearest_index(height, n)):
            level[:, j, :] += wide[:, i, :]
        levels.append(level)
    z = np.maximum(convolve(np.concatenate(levels), weights[f"{name}.fuse_conv.weight"]), 0)
    first = convolve(z, weights[f"{name}.conv_final.weight"], weights[f"{name}.conv_final.bias"])
    o = f * sigmoid(first)
    inner = convolve(o, weights[f"{name}.mask_conv_1.weight"], weights[f"{name}.mask_conv_1.bias"], pad=(1, 1))
    outer = convolve(
        np.maximum(inner, 0), weights[f"{name}.mask_conv_2.weight"], weights[f"{name}.mask_conv_2.bias"], pad=(1, 1)
    )
    return o * sigmoid(outer)


def block(x: Map, weights: Weights, name: str) -> Map:
    """One blur-aware module: attention beside two cascades of dilated convolutions, residual, then activation."""

    def conv(y: Map, part: str, dilation: int = 1) -> Map:
        weight, bias = weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]
        return convolve(y, weight, bias, pad=(dilation, dilation), dilation=dilation)

    f = leaky(conv(x, "input_conv"))
    b = attention(f, weights, f"{name}.BA")
    p1 = np.concatenate([conv(f, "content_conv_d1", 1), conv(f, "content_conv_d3", 3), conv(f, "content_conv_d5", 5)])
    t = leaky(conv(p1, "fuse_conv_1"))
    p2 = np.concatenate(
        [conv(t, "content_conv_d1_2", 1), conv(t, "content_conv_d3_2", 3), conv(t, "content_conv_d5_2", 5)]
    )
    y = conv(np.concatenate([p2, b]), "final_conv")
    return leaky(y + x)


def banet(x: Map, weights: Weights) -> Map:
    """(3, H, W) -> (3, H, W), not clamped; as deep as there are BAM_k."""

    def pair(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return weights[f"{name}.0.weight"], weights[f"{name}.0.bias"]

    res = leaky(convolve(x, *pair("en_layer1"), pad=(1, 1)))
    y = leaky(convolve(res, *pair("en_layer2"), pad=(1, 1), stride=2))
    for k in range(1, 1 + len({key.split(".")[0] for key in weights if key.startswith("BAM_")})):
        y = block(y, weights, f"BAM_{k}")
    up = leaky(convolve_transposed(y, *pair("de_layer1")))
    y = leaky(convolve(np.concatenate([up, res]), *pair("de_layer2"), pad=(1, 1)))
    return convolve(y, *pair("de_layer3"), pad=(1, 1)) + x
