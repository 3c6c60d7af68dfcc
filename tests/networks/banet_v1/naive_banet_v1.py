"""A second BA-Net v1, deliberately naive: numpy float64 and loops, from the parts of the naive BANet.

Its attention is written out again: a convolution for each direction, stretched to the map, then fused by 3x3.
"""

from __future__ import annotations

import numpy as np
from naive_banet import (
    Map,
    Weights,
    convolve,
    convolve_transposed,
    leaky,
    nearest_index,
    pool_columns,
    pool_rows,
    sigmoid,
)


def attention(f: Map, weights: Weights, name: str) -> Map:
    _, height, width = f.shape
    levels = []
    for n in (1, 3, 5, 7):
        pads = ((1, 0), (0, 1)) if n == 1 else ((1, 1), (1, 1))
        tall = convolve(pool_columns(f, n), weights[f"{name}.conv_{n}_h.weight"], pad=pads[0])
        wide = convolve(pool_rows(f, n), weights[f"{name}.conv_{n}_w.weight"], pad=pads[1])
        level = np.zeros((tall.shape[0], height, width))
        for j, i in enumerate(nearest_index(width, n)):
            level[:, :, j] += tall[:, :, i]
        for j, i in enumerate(nearest_index(height, n)):
            level[:, j, :] += wide[:, i, :]
        levels.append(level)
    z = np.maximum(convolve(np.concatenate(levels), weights[f"{name}.fuse_conv.weight"], pad=(1, 1)), 0)
    o = f * sigmoid(convolve(z, weights[f"{name}.conv_final.weight"], weights[f"{name}.conv_final.bias"]))
    inner = convolve(o, weights[f"{name}.mask_conv_1.weight"], weights[f"{name}.mask_conv_1.bias"], pad=(1, 1))
    outer = convolve(
        np.maximum(inner, 0), weights[f"{name}.mask_conv_2.weight"], weights[f"{name}.mask_conv_2.bias"], pad=(1, 1)
    )
    return o * sigmoid(outer)


def block(x: Map, weights: Weights, name: str) -> Map:
    """Where the block begins with `shortcut_conv`, its output takes x's place, in the residual too."""

    def conv(y: Map, part: str, dilation: int = 1) -> Map:
        weight, bias = weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]
        return convolve(y, weight, bias, pad=(dilation, dilation), dilation=dilation)

    if f"{name}.shortcut_conv.weight" in weights:
        x = convolve(x, weights[f"{name}.shortcut_conv.weight"])
    f = leaky(conv(x, "input_conv"))
    p = np.concatenate([conv(f, f"content_conv_d{d}", d) for d in (1, 3, 5)])
    t = leaky(conv(p, "fuse_conv_1"))
    p = np.concatenate([conv(t, f"content_conv_d{d}_2", d) for d in (1, 3, 5)])
    return leaky(conv(np.concatenate([p, attention(f, weights, f"{name}.BA")]), "final_conv") + x)


def banet_v1(x: Map, weights: Weights) -> Map:
    """(3, H, W) -> (3, H, W), not clamped; as deep as there are BAM_k."""

    def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
        return weights[f"{name}.0.weight"], weights[f"{name}.0.bias"]

    res = leaky(convolve(x, *pair("en_layer1"), pad=(1, 1)))
    y = leaky(convolve(res, *pair("en_layer2"), pad=(1, 1), stride=2))
    for k in range(1, 1 + len({key.split(".")[0] for key in weights if key.startswith("BAM_")})):
        y = block(y, weights, f"BAM_{k}")
    up = leaky(convolve_transposed(y, *pair("de_layer1")))
    y = leaky(convolve(np.concatenate([up, res]), *pair("de_layer2"), pad=(1, 1)))
    return convolve(y, *pair("de_layer3"), pad=(1, 1)) + x
