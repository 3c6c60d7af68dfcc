"""What TensorRT says, in few words: refusals with node, operator and cure, warnings counted by kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_PLUGIN = "it is a plugin, which no product here carries: export the network without {}"
_OPERATOR_CURES = {
    "DeformConv": _PLUGIN.format("deformable convolutions"),
    # NVIDIA/TensorRT 11.2 release notes: DFT through a cuFFT plugin. TensorRT for RTX 1.7 refuses it.
    "DFT": "only the data-centre TensorRT has it, from 11.2 on: write the transform as a matrix product",
    "DynamicQuantizeLinear": "quantise with fixed scales",
}
_TEXT_CURES = (
    (r"[Nn]on-zero zero point", "quantise symmetrically, with zero point 0"),
    (r"does not support UINT8 types for intermediate", "bytes are possible only at the network's input and output: "
     "cast them there"),
    (r"FP32 GEMM is not supported", "sm75 has no float32 matrix product: take --fp16, or leave sm75 out"),
    (r"HW-specific datatypes: fp8", "FP8 needs sm89 or later"),
    (r"HW-specific datatypes: b16", "BF16 needs sm80 or later"),
    (r"out of memory|OutOfMemory|insufficient memory", "close what else uses the GPU, or build for smaller sizes"),
    (r"dynamic or shape inputs, but no optimization profile", "name the sizes with --shapes"),
    (r"[Pp]lugin not found", "no product here has this operator"),
)  # fmt: skip


def parser_refusals(parser: Any) -> list[str]:
    """A line for each error of an OnnxParser: the ONNX node, its operator, the reason, and the cure where known."""
    lines = []
    for k in range(parser.num_errors):
        error = parser.get_error(k)
        operator, text = error.node_operator(), _first_line(error.desc())
        node = error.node_name() or f"number {error.node()}"
        lines.append(f"  node {node!r} ({operator or 'no operator'}): {text}{_cure(operator, text)}")
    return lines or ["  the parser named no node; is the file a complete ONNX model?"]


def build_failure(errors: Sequence[str]) -> str:
    """The last errors of a build that gave no engine, each with its cure where known."""
    lines = [f"  {_first_line(text)}{_cure('', text)}" for text in dict.fromkeys(errors)]
    return "\n".join(lines[-5:]) or "  it logged no reason"


def sum_up(warnings: Sequence[str]) -> tuple[str, ...]:
    """Warnings that differ only in names and numbers as one line, with how often they came, commonest first."""
    kinds: dict[str, list[str]] = {}
    for text in warnings:
        # `[8] file.cpp:9164`, quoted names, addresses and numbers are what differs between two of a kind.
        kinds.setdefault(re.sub(r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\S*/\S+|[-+]?\w*\d[\w.]*", "#", text), []).append(text)
    ordered = sorted(kinds.values(), key=len, reverse=True)
    return tuple(f"{len(group)}x {_first_line(group[0])}" for group in ordered)


def _cure(operator: str, text: str) -> str:
    cure = _OPERATOR_CURES.get(operator) or next((cure for words, cure in _TEXT_CURES if re.search(words, text)), "")
    return f"; {cure}" if cure else ""


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
