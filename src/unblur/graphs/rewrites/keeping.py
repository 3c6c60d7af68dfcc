"""Which convolutions stay in floating point, each with the reason: where somebody says so, and where nobody does."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Sequence

import onnx
from onnx import NodeProto

from unblur.core.errors import InputError, nearest
from unblur.graphs.facts import CONVOLUTIONS, is_map
from unblur.graphs.metadata import parts_of
from unblur.graphs.rewrites.forms import Form
from unblur.graphs.shapes import find_tensors

FIRST, LAST = "first: reads the frame", "last: writes the frame"
STRIP = "reads a strip, not a map: too little to gain"

DEFAULT, NONE = "default", "none"
"""Words of `kept`: what stays when nobody says otherwise, and nothing but what the form cannot have in 8 bits."""


def kept(model: onnx.ModelProto, form: Form, words: Sequence[str]) -> dict[str, str]:
    """Convolution -> why it stays in floating point.

    `words`: DEFAULT, NONE, or names of nodes, layers, groups and blocks, also as globs (`encoder.*`) or, where no name
    fits that, regular expressions. What the form leaves out stays in any case. Raises InputError for a word that
    nothing is named by, telling the nearest name, and as `kept_by_default`.
    """
    by_default = kept_by_default(model, form)
    chosen = {name: why for name, why in by_default.items() if why not in (FIRST, LAST, STRIP)}
    called = _called(model)
    for word in words:
        if word == DEFAULT:
            chosen |= by_default
        elif word != NONE:
            found = _fitting(word, called)
            if not found:
                names = sorted({name for names in called.values() for name in names})
                raise InputError(
                    f"--keep {word}: no convolution, layer or block of the graph is called so{nearest(word, names)}, "
                    "and no file."
                )
            chosen |= {name: by_default.get(name, f"kept by name: {word}") for name in found}
    return chosen


def _called(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Convolution -> what it may be called: the node, its layer, its group, its block."""
    parts = parts_of(model)
    names = [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS]
    return {
        name: tuple(word for word in (name, name.rpartition("/")[0], parts[name].group, parts[name].block) if word)
        for name in names
    }


def _fitting(word: str, called: dict[str, tuple[str, ...]]) -> list[str]:
    def having(fits: Iterable[str]) -> list[str]:
        wanted = set(fits)
        return [name for name, names in called.items() if wanted.intersection(names)]

    known = {name for names in called.values() for name in names}
    if word in known:  # before all patterns: a name may hold brackets
        return having([word])
    found = having(fnmatch.filter(known, word))
    if not found:
        try:
            pattern = re.compile(word)
        except re.error:
            return []
        found = having(name for name in known if pattern.fullmatch(name))
    return found


def kept_by_default(model: onnx.ModelProto, form: Form) -> dict[str, str]:
    """Convolution -> why it stays in floating point: the first, the last, those of strips, what the form leaves out.

    Raises InputError for a graph whose shapes are not known.
    """
    graph, known = model.graph, find_tensors(model, strict=False)
    given = known.whole_shape(graph.input[0].name) or (1, 3, 0, 0)
    frame = given[2:] if given[1] == 3 else given[1:3]  # (height, width) of NCHW or NHWC
    after, before = _reached(graph)
    kept = {}
    for node in graph.node:
        if node.op_type in CONVOLUTIONS:
            weight, data = known.whole_shape(node.input[1]) or (), known.whole_shape(node.input[0]) or ()
            if len(weight) != 4 or len(data) != 4 or not all((*weight, *data)):
                raise InputError(
                    f"{node.name}: the shapes of its operands are not known; export the graph for one size "
                    "(--height and --width) to quantise it."
                )
            reason = _left_out(node, weight, form)
            if reason is None and not any(after.get(i, False) for i in node.input):
                reason = FIRST
            elif reason is None and not any(before.get(o, False) for o in node.output):
                reason = LAST
            elif reason is None and not is_map(data[2], data[3], frame[0], frame[1]):
                reason = STRIP
            if reason:
                kept[node.name] = reason
    return kept


def _left_out(node: NodeProto, weight: tuple[int, ...], form: Form) -> str | None:
    """Why the form cannot have it in 8 bits."""
    transposed = node.op_type == "ConvTranspose"
    if transposed and not form.transposed:
        return f"transposed: form {form.name} leaves it out"
    into, out = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
    if min(into, out) < form.narrowest:
        return f"{into} to {out} channels: form {form.name} wants at least {form.narrowest}"
    area = math.prod(weight[2:])
    if form.largest_kernel is not None and area > form.largest_kernel:
        return f"kernel of {area} elements: form {form.name} takes {form.largest_kernel}"
    return None


def _reached(graph: onnx.GraphProto) -> tuple[dict[str, bool], dict[str, bool]]:
    """Tensor -> whether a convolution lies upstream; tensor -> whether one lies downstream. By data, not by shape."""
    after: dict[str, bool] = {}
    before: dict[str, bool] = {}
    for node in graph.node:  # topological, as ONNX demands
        found = node.op_type in CONVOLUTIONS or any(after.get(i, False) for i in node.input)
        after.update(dict.fromkeys(node.output, found))
    for node in reversed(graph.node):
        found = node.op_type in CONVOLUTIONS or any(before.get(o, False) for o in node.output)
        for name in node.input:
            before[name] = before.get(name, False) or found
    return after, before
