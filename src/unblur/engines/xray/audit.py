"""Hold an engine to the precision it was asked for, convolution by convolution; name what it does besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unblur.core.errors import BudgetError
from unblur.engines.xray.kernel_kinds import COPY, EIGHT_BITS, EPILOGUE, QUANTISERS, REQUANTISATION, kind_of
from unblur.engines.xray.kernels import BYTES, Kernel, XRay
from unblur.engines.xray.macs import weights_of
from unblur.graphs.facts import Convolution, GraphFacts

UNSEEN = "not listed"
"""Precision of a convolution that no kernel names."""


def realised_precision(xray: XRay, convolutions: Sequence[str]) -> dict[str, str]:
    """Convolution node of the graph -> the widest type it computes in (Half, Float, ...), or UNSEEN.

    Small 1x1 convolutions are sometimes expanded into generated pointwise kernels; then those count.
    """
    found = {}
    for name in convolutions:
        holding = [kernel for kernel in xray.kernels if name in kernel.nodes]
        # A generated kernel beside the convolution only lays out its input.
        computing = [kernel for kernel in holding if kernel.is_convolution] or holding
        types = [computes_in(kernel) for kernel in computing]
        found[name] = max(types, key=lambda kind: BYTES[kind]) if types else UNSEEN
    return found


def computes_in(kernel: Kernel) -> str:
    """What a kernel's arithmetic runs in: the widest type among its maps and weights. Scalars do not count.

    Where the weights and a map have 8 bits the products have too; scales, bias and a residual are wider by design.
    """
    weights = weights_of(kernel)
    if weights is not None and weights.type in EIGHT_BITS and weights.type in {t.type for t in kernel.inputs}:
        return weights.type
    operands = [t for t in (*kernel.inputs, *kernel.constants) if len(t.shape) >= 3] or [
        *kernel.inputs,
        *kernel.outputs,
    ]
    return max(operands, key=lambda t: BYTES[t.type]).type


DECLARED = {"fp16": "Half", "bf16": "BFloat16", "int8": "Int8", "fp8": "FP8"}
"""Precision in a graph's metadata -> the type its convolutions are to run in."""


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing: a rule, what it concerns (a convolution or a kernel), a sentence, and its bytes.

    `broken` is a promise not kept (exit code 3); the rest costs time but is what the compiler chose.
    """

    rule: str
    subject: str
    text: str
    bytes_moved: int
    broken: bool


def audit(xray: XRay, facts: GraphFacts) -> tuple[Finding, ...]:
    """All findings: first the broken promises in the order of the graph, then the kernels that cost bytes."""
    realised = realised_precision(xray, [convolution.name for convolution in facts.convolutions])
    promises = [*_declaration(facts), *(_promise(c, realised[c.name], xray) for c in facts.convolutions)]
    costs = (_cost(kernel, facts) for kernel in xray.kernels)
    return tuple(finding for finding in (*promises, *costs) if finding is not None)


def demand_asked(findings: Sequence[Finding]) -> None:
    """Raise BudgetError when a promise is broken, with the first ten."""
    broken = [finding for finding in findings if finding.broken]
    if broken:
        shown = "\n".join(f"  {finding.subject}: {finding.text}" for finding in broken[:10])
        more = f"\n  ... and {len(broken) - 10} more" if len(broken) > 10 else ""
        raise BudgetError(
            f"The precision that was asked for is not there ({len(broken)} findings):\n{shown}{more}\n"
            "Build for another target, or ask for the precision the engine has."
        )


def _declaration(facts: GraphFacts) -> list[Finding]:
    """The metadata against the graph's own types: INT8 and FP8 may spare convolutions, FP16 and BF16 none."""
    wanted = DECLARED.get(facts.declared or "")
    if wanted is None:
        return []
    asked = [convolution.asked for convolution in facts.convolutions]
    strays = [convolution for convolution in facts.convolutions if convolution.asked != wanted]
    if wanted in EIGHT_BITS and wanted in asked:
        strays = []
    text = f"the metadata says {facts.declared}, but the graph's types ask for"
    return [Finding("declared", stray.name, f"{text} {stray.asked}", 0, True) for stray in strays]


def _promise(convolution: Convolution, realised: str, xray: XRay) -> Finding | None:
    if realised == convolution.asked:
        return None
    moved = sum(kernel.bytes_moved for kernel in xray.kernels if convolution.name in kernel.nodes)
    if realised == UNSEEN:
        return Finding("unseen", convolution.name, "no kernel of the engine names it", moved, True)
    text = f"asked in {convolution.asked}, runs in {realised}"
    if convolution.asked in EIGHT_BITS:
        return Finding("emulated", convolution.name, f"{text}: the quantisation is emulated", moved, True)
    # Float asked and something narrower found would be a compiler that breaks strong typing: say so too.
    return Finding("precision", convolution.name, text, moved, True)


def _cost(kernel: Kernel, facts: GraphFacts) -> Finding | None:
    kind = kind_of(kernel, facts)
    edge = any(t.name in facts.edges for t in (*kernel.inputs, *kernel.outputs))
    if kind == COPY:
        where = "the frame itself is laid out or cast" if edge else "a whole map is copied"
        return Finding("copy", kernel.name, where, kernel.bytes_moved, False)
    if kind == REQUANTISATION:
        quantisers = [node for node in kernel.nodes if facts.operators.get(node) in QUANTISERS]
        text = f"a kernel of its own converts to or from 8 bits ({', '.join(quantisers) or 'no node named'})"
        return Finding("requantisation", kernel.name, text, kernel.bytes_moved, False)
    if kernel.is_convolution and computes_in(kernel) in EIGHT_BITS:
        wide = [t.type for t in kernel.outputs if BYTES[t.type] > 2]
        if wide:
            text = f"multiplies in 8 bits but writes {wide[0]}: another kernel scales it"
            return Finding("wide output", kernel.name, text, kernel.bytes_moved, False)
    if kind == EPILOGUE:
        text = f"stands alone instead of inside a convolution ({', '.join(kernel.nodes) or 'no node named'})"
        return Finding("epilogue", kernel.name, text, kernel.bytes_moved, False)
    return None
