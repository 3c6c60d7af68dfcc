"""A second SGENet, deliberately naive, to hold `unblur.networks.sgenet` against: numpy float64, no torch operator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from naive_banet import Map, convolve, sigmoid
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[np.float64]]


def halved(x: Map) -> Map:
    """The pixel between four, which all lie half a pixel off."""
    _, height, width = x.shape
    out = np.zeros((x.shape[0], height // 2, width // 2))
    for i in range(height // 2):
        for j in range(width // 2):
            out[:, i, j] = sum(x[:, 2 * i + a, 2 * j + b] for a in (0, 1) for b in (0, 1)) / 4
    return out


def doubled(x: Map) -> Map:
    """Pixel i lies at (i + 1/2) / 2 - 1/2 of the smaller map, held to its first and last pixel."""

    def at(i: int, length: int) -> tuple[int, int, float]:
        place = min(max((i + 0.5) / 2 - 0.5, 0.0), length - 1.0)
        low = int(place)
        return low, min(low + 1, length - 1), place - low

    _, height, width = x.shape
    out = np.zeros((x.shape[0], 2 * height, 2 * width))
    for i in range(2 * height):
        top, bottom, down = at(i, height)
        for j in range(2 * width):
            left, right, across = at(j, width)
            upper = (1 - across) * x[:, top, left] + across * x[:, top, right]
            lower = (1 - across) * x[:, bottom, left] + across * x[:, bottom, right]
            out[:, i, j] = (1 - down) * upper + down * lower
    return out


class Naive:
    """One network; `pictures` are of stage 1, then stage 2: its own, then those of its skips."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.scales = len({key.split(".")[2] for key in weights if key.startswith("stage_1.encoder.")})
        self.count = len({key.split(".")[3] for key in weights if key.startswith("stage_1.encoder.")})

    def conv(self, x: Map, name: str, dilation: int = 1) -> Map:
        weight = self.weights[f"{name}.weight"]
        pad = weight.shape[2] // 2 * dilation
        return convolve(x, weight, pad=(pad, pad), dilation=dilation)

    def act(self, x: Map, name: str = "act") -> Map:
        return np.where(x >= 0, x, float(self.weights[f"{name}.weight"][0]) * x)

    def shallow(self, x: Map, name: str) -> Map:
        x = self.conv(x, f"{name}.conv")
        y = self.conv(self.act(self.conv(x, f"{name}.body.0")), f"{name}.body.1")
        pooled = y.mean(axis=(1, 2), keepdims=True)
        inner = np.maximum(self.conv(pooled, f"{name}.squeeze"), 0)
        return x + y * sigmoid(self.conv(inner, f"{name}.excite"))

    def dilated(self, x: Map, name: str) -> Map:
        y = self.act(self.conv(x, f"{name}.first"))
        y = np.concatenate([self.conv(y, f"{name}.dilated.{k}", d) for k, d in enumerate((1, 2, 5))])
        return x + self.conv(self.act(self.conv(y, f"{name}.fuse")), f"{name}.last")

    def modules(self, x: Map, name: str) -> Map:
        for k in range(self.count):
            x = self.dilated(x, f"{name}.{k}")
        return x

    def enhance(self, fine: Map, coarse: Map, degraded: Map, name: str) -> tuple[Map, Map]:
        e = np.maximum(self.conv(np.concatenate([fine, doubled(coarse)]), f"{name}.encode"), 0)
        r = self.conv(e, f"{name}.restore")
        gate = sigmoid(self.conv(degraded + r, f"{name}.gate_conv"))
        return gate * self.conv(np.concatenate([self.conv(r, f"{name}.lift"), e]), f"{name}.fuse"), degraded + r

    def select(self, features: list[Map], name: str) -> Map:
        channels = len(features[0])
        pooled = sum(features).mean(axis=(1, 2))
        logits = np.zeros((3, channels))
        for i in range(3):
            third = pooled[i * channels // 3 : (i + 1) * channels // 3]
            inner = self.act(self.weights[f"{name}.squeeze.{i}.weight"][:, :, 0, 0] @ third, f"{name}.acts.{i}")
            logits[i] = self.weights[f"{name}.excite.{i}.weight"][:, :, 0, 0] @ inner
        out = np.zeros_like(features[0])
        for c in range(channels):
            shares = np.exp(logits[:, c]) / sum(np.exp(logits[i, c]) for i in range(3))
            out[c] = sum(shares[i] * features[i][c] for i in range(3))
        return out

    def stage(
        self, f: Map, inputs: list[Map], name: str, before: tuple[list[Map], list[Map]] | None
    ) -> tuple[list[Map], list[Map], list[Map]]:
        encoded = []
        for s in range(self.scales):
            f = self.conv(halved(f), f"{name}.down.{s - 1}") if s else f
            f = self.modules(f, f"{name}.encoder.{s}")
            if before:
                f = self.select([f, before[0][s], before[1][s]], f"{name}.select.{s}")
            encoded.append(f)
        last = self.scales - 1
        decoded = {last: self.modules(f, f"{name}.decoder.{last}")}
        images = {}
        for s in range(last - 1, -1, -1):
            skip, images[s] = self.enhance(encoded[s], encoded[s + 1], inputs[s], f"{name}.enhance.{s}")
            up = self.conv(doubled(decoded[s + 1]), f"{name}.up.{s}")
            decoded[s] = self.modules(up + skip, f"{name}.decoder.{s}")
        return encoded, [decoded[s] for s in range(self.scales)], [images[s] for s in range(last)]

    def pictures(self, x: Map) -> list[list[Map]]:
        inputs = [x]
        for _ in range(self.scales - 2):
            inputs.append(halved(inputs[-1]))
        encoded, decoded, first = self.stage(self.shallow(x, "shallow_1"), inputs, "stage_1", None)
        image = self.conv(decoded[0], "sam.restore") + x
        gate = sigmoid(self.conv(image, "sam.gate_conv"))
        features = decoded[0] + self.conv(decoded[0], "sam.features") * gate
        start = self.conv(np.concatenate([self.shallow(x, "shallow_2"), features]), "concat")
        _, decoded, second = self.stage(start, inputs, "stage_2", (encoded, decoded))
        return [[image, *first], [self.conv(decoded[0], "tail") + x, *second]]
