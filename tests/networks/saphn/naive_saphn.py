"""A second SAPHN, deliberately naive: numpy float64, loops over places and taps, patches cut out one by one.

Written from the paper's equations, not from the package, with which it shares no line; convolutions are those of the
naive BANet. The softmax is divided where it is made, every tap of every place is looked up by itself.
"""

from __future__ import annotations

import math

import numpy as np
from naive_banet import Map, Weights, convolve, convolve_transposed, sigmoid


def conv(x: Map, weights: Weights, name: str, stride: int = 1) -> Map:
    """A biased convolution whose padding keeps the size."""
    weight = weights[f"{name}.weight"]
    return convolve(x, weight, weights[f"{name}.bias"], pad=(weight.shape[2] // 2, weight.shape[3] // 2), stride=stride)


def relu(x: Map) -> Map:
    return np.maximum(x, 0)


def attention(x: Map, values: Map, weights: Weights, name: str) -> Map:
    """y at a place = sum over the maps c of P_c(place) * M2 * (sum over all places of the values, by Q_c)."""
    m1 = sigmoid(conv(x, weights, f"{name}.mask"))[0]
    x, values = x * m1, values * m1
    channels, height, width = values.shape
    p, q = conv(x, weights, f"{name}.spread"), conv(x, weights, f"{name}.gather")
    pooled = np.array([[[x[c].sum() / (height * width)]] for c in range(channels)])
    m2 = sigmoid(conv(pooled, weights, f"{name}.select"))[:, 0, 0]
    shares = np.exp(p) / np.exp(p).sum(axis=0)
    out = np.zeros_like(values)
    for c in range(len(q)):
        heat = np.exp(q[c]) / np.exp(q[c]).sum()
        for d in range(channels):
            out[d] += m2[d] * (values[d] * heat).sum() * shares[c]
    return out


def value_at(x: Map, row: float, column: float) -> np.ndarray:
    """All channels at one point, bilinear, 0 outside of the map."""
    top, left = math.floor(row), math.floor(column)
    total = np.zeros(len(x))
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < x.shape[1] and 0 <= j < x.shape[2]:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * x[:, i, j]
    return total


def pixel_filter(x: Map, weights: Weights, name: str) -> Map:
    """Eqs. 11-12, one place and one tap after the other; each tap has a value and, in variant b, (down, right)."""
    values = conv(x, weights, f"{name}.adapt")
    moves = f"{name}.offset.weight" in weights
    offsets = 4 * np.tanh(conv(x, weights, f"{name}.offset")) if moves else np.zeros((50, *x.shape[1:]))
    kernel, bias = weights[f"{name}.weights.weight"], weights[f"{name}.weights.bias"]
    out = np.zeros((len(kernel), *x.shape[1:]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            out[:, i, j] = bias
            for a in range(5):
                for b in range(5):
                    k = 5 * a + b
                    seen = value_at(x, i + a - 2 + offsets[2 * k, i, j], j + b - 2 + offsets[2 * k + 1, i, j])
                    out[:, i, j] += values[k, i, j] * kernel[:, :, a, b] @ seen
    return out


def block(x: Map, e: Map | None, weights: Weights, name: str) -> Map:
    h = relu(conv(x, weights, f"{name}.enter"))
    g = attention(h, h, weights, f"{name}.self_attention")
    if e is not None:
        g = g + attention(h, e, weights, f"{name}.cross_attention")
    m = sigmoid(conv(h, weights, f"{name}.mix"))
    return x + conv(m * g + (1 - m) * pixel_filter(h, weights, f"{name}.filter"), weights, f"{name}.leave")


def count(weights: Weights) -> int:
    return len({key.split(".")[2] for key in weights if key.startswith("encoder_1.blocks.")})


def encoder(x: Map, weights: Weights, name: str) -> Map:
    x = relu(conv(x, weights, f"{name}.stem"))
    x = relu(conv(x, weights, f"{name}.down_1", stride=2))
    x = relu(conv(x, weights, f"{name}.down_2", stride=2))
    for k in range(count(weights)):
        x = block(x, None, weights, f"{name}.blocks.{k}")
    return x


def decoder(e: Map, weights: Weights, name: str) -> Map:
    x = e
    for k in range(count(weights)):
        x = block(x, e, weights, f"{name}.blocks.{k}")
    for part in ("up_1", "up_2"):
        x = relu(convolve_transposed(x, weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]))
    return conv(x, weights, f"{name}.image")


def saphn(x: Map, weights: Weights) -> Map:
    """(3, H, W) -> (3, H, W), not clamped: four patches, then two, then the frame."""
    height, width = x.shape[1:]
    f3 = np.zeros((len(weights["encoder_1.down_2.bias"]), height // 4, width // 4))
    for i in range(2):
        for j in range(2):
            patch = x[:, i * height // 2 : (i + 1) * height // 2, j * width // 2 : (j + 1) * width // 2]
            down, right = height // 8, width // 8
            f3[:, i * down : (i + 1) * down, j * right : (j + 1) * right] = encoder(patch, weights, "encoder_3")
    r3, f2 = np.zeros_like(x), np.zeros_like(f3)
    for i in range(2):
        half, quarter = slice(i * height // 2, (i + 1) * height // 2), slice(i * height // 8, (i + 1) * height // 8)
        r3[:, half] = decoder(f3[:, quarter], weights, "decoder_3")
        f2[:, quarter] = encoder(x[:, half] + r3[:, half], weights, "encoder_2")
    f2 = f2 + attention(f2, f3, weights, "cross_level_2")
    f1 = encoder(x + decoder(f2, weights, "decoder_2"), weights, "encoder_1")
    f1 = f1 + attention(f1, f2, weights, "cross_level_1")
    return decoder(f1, weights, "decoder_1")
