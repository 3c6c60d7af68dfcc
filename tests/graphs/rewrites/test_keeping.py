"""Words for what stays in floating point, on the graph of a real, tiny network."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from unblur.core.errors import InputError
from unblur.graphs.rewrites.forms import FP8, OPENVINO
from unblur.graphs.rewrites.keeping import FIRST, LAST, kept, kept_by_default
from unblur.graphs.rewrites.quantise import quantise, tensors_to_measure
from unblur.graphs.rewrites.ranges import Range, Ranges


@pytest.fixture(scope="module")
def model(fixed_graph: Path) -> onnx.ModelProto:
    return onnx.load(fixed_graph)


def test_the_words_for_all_nothing_and_the_default(model: onnx.ModelProto) -> None:
    assert kept(model, OPENVINO, ["default"]) == kept_by_default(model, OPENVINO)
    nothing = kept(model, OPENVINO, ["none"])
    assert list(nothing) == ["de_layer1.0/ConvTranspose"], "which the form cannot have in 8 bits"
    ranges = Ranges("any", {name: Range(-1.0, 1.0) for name in tensors_to_measure(model, OPENVINO, nothing)})
    assert len(quantise(model, ranges, OPENVINO, keep=nothing).kept) == 1
    assert set(kept(model, FP8, ["none"])) == set(kept_by_default(model, FP8)), "all of it is too narrow for FP8"


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("en_layer1.0/Conv", {"en_layer1.0/Conv"}),
        ("en_layer1.0", {"en_layer1.0/Conv"}),
        ("encoder", {"en_layer1.0/Conv", "en_layer2.0/Conv"}),
        ("BAM_1.content_conv", {f"BAM_1.content_conv_d{k}/Conv" for k in (1, 3, 5)}),
        ("BAM_?.BA.mask_conv_*", {f"BAM_{b}.BA.mask_conv_{k}/Conv" for b in (1, 2) for k in (1, 2)}),
        (r"BAM_\d\.(input|final)_conv", {f"BAM_{b}.{k}_conv/Conv" for b in (1, 2) for k in ("input", "final")}),
    ],
)
def test_a_name_of_a_node_a_layer_a_group_or_a_block_and_patterns_of_them(
    word: str, names: set[str], model: onnx.ModelProto
) -> None:
    found = kept(model, OPENVINO, [word])
    assert set(found) - set(kept(model, OPENVINO, ["none"])) == names
    assert all(found[name] in (FIRST, LAST) or word in found[name] for name in names), "the reason says what was said"


def test_a_word_that_nothing_is_called_is_refused_with_the_nearest(model: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match=r"--keep BAM_1\.BA\.mask_con_1: no .* did you mean 'BAM_1\.BA\.mask_conv_1'"):
        kept(model, OPENVINO, ["default", "BAM_1.BA.mask_con_1"])
    for word in ("BAM_9.*", "([", "keep.txt"):
        with pytest.raises(InputError, match="no convolution, layer or block of the graph is called so"):
            kept(model, OPENVINO, [word])
