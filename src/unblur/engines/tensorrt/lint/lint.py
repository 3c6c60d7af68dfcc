"""Hold a graph to what a TensorRT product takes, before anything is built.

Each rule tells its source. A rule of TensorRT for RTX is proved in the tests against its parser and compiler, in both
directions; rules of the data-centre product are from what is written, no libnvinfer was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from unblur.engines.tensorrt.lint import operators, quantisation, types
from unblur.engines.tensorrt.lint.rule import LintView, Request, Rule
from unblur.engines.tensorrt.product import OLDEST_TENSORRT, ProductName
from unblur.graphs.view import label

RULES: tuple[Rule, ...] = (*operators.RULES, *types.RULES, *quantisation.RULES)

SHOWN = 12


@dataclass(frozen=True)
class LintFinding:
    """A rule, the node that breaks it, what is wrong, the cure, and where the rule is known from.

    `refused`: the product gives no engine. Else it gives one that does something else than the graph says.
    """

    rule: str
    node: str
    text: str
    cure: str
    source: str
    refused: bool


def lint(
    model: onnx.ModelProto, product: ProductName, target: str, version: tuple[int, int] = OLDEST_TENSORRT
) -> tuple[LintFinding, ...]:
    """All findings, rule by rule, each in the order of the graph.

    `target`: a GPU family such as "sm89", or "portable". `version` is the product's (major, minor); it counts only
    for the data-centre product, whose limits differ by release.
    """
    view = LintView(model, Request(product, target, version))
    return tuple(
        LintFinding(rule.name, label(node), text, rule.cure, rule.sources[product], rule.refused)
        for rule in RULES
        if product in rule.sources
        for node, text in rule.check(view)
    )


def describe_lints(product: ProductName, target: str, findings: Sequence[LintFinding]) -> str:
    """The findings as lines for a terminal."""
    written = "" if product == "tensorrt-rtx" else " (rules from its documentation; nothing was built)"
    if not findings:
        return f"lint for {product} {target}: nothing to object to{written}"
    lines = [f"lint for {product} {target}: {len(findings)} findings{written}"]
    for finding in findings[:SHOWN]:
        what = "refused" if finding.refused else "taken, but not as it is written"
        lines.append(f"  {finding.node}: {finding.rule}, {what}: {finding.text}. {finding.cure}. [{finding.source}]")
    if len(findings) > SHOWN:
        lines.append(f"  ... and {len(findings) - SHOWN} more")
    return "\n".join(lines)
