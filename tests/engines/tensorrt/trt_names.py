"""Find every name of TensorRT that a source file uses, and hold it to the snapshots of the releases it is used with.

TensorRT has no types to check against, so the names of variables are the types: `config` is an IBuilderConfig wherever
it stands in engines/tensorrt/*.py (CLASSES), with or without underscores before it, on `self` or not. A name must be in
all snapshots, except where the code has asked for the product: in the branch of an `if` that compares with
"tensorrt-rtx" or asks `is_rtx`, and in functions with rtx in their name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fake_tensorrt import VERSIONS, snapshot

RTX = frozenset({"tensorrt-rtx"})
ALL = frozenset(VERSIONS)

CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "parser_error": "ParserError",
    "config": "IBuilderConfig",
    "profile_of_builder": "IOptimizationProfile",
    "made": "IOptimizationProfile",
    "timing_cache": "ITimingCache",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "cuda_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "runtime_config": "IRuntimeConfig",
    "runtime_cache": "IRuntimeCache",
}
MODULES = ("trt", "tensorrt", "tensorrt_rtx")
OF_FILES = frozenset(dir(Path))
"""`engine` and `cache` are also paths."""


@dataclass(frozen=True)
class Use:
    """A name in a file: `owner` is a class or enum, "" the module itself; `products` those it may meet."""

    line: int
    owner: str
    name: str
    products: frozenset[str]

    def missing(self) -> list[str]:
        """The products whose snapshot lacks it."""
        return [product for product in sorted(self.products) if not _has(product, self.owner, self.name)]


@cache
def _names(product: str) -> dict[str, Any]:
    return snapshot(VERSIONS[product])


def _has(product: str, owner: str, name: str) -> bool:
    names = _names(product)
    if owner == "":
        return name in names["classes"] or name in names["enums"] or name in names["functions"] or name == "__version__"
    if owner in names["enums"]:
        return name in names["enums"][owner]
    return owner in names["classes"] and name in names["classes"][owner]


def uses(source: str) -> list[Use]:
    """Every use in a file, in its order."""
    return sorted(_visit(ast.parse(source), ALL), key=lambda use: use.line)


def _visit(node: ast.AST, products: frozenset[str]) -> Iterator[Use]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "rtx" in node.name:
        products &= RTX
    if isinstance(node, ast.If | ast.IfExp):
        yield from _visit(node.test, products)
        inside, outside = _asked(node.test)
        body, other = (node.body, node.orelse) if isinstance(node, ast.If) else ([node.body], [node.orelse])
        for part in body:
            yield from _visit(part, products & inside)
        for part in other:
            yield from _visit(part, products & outside)
        return
    if isinstance(node, ast.Attribute):
        yield from _use(node, products)
    for child in ast.iter_child_nodes(node):
        yield from _visit(child, products)


def _asked(test: ast.expr) -> tuple[frozenset[str], frozenset[str]]:
    """The products for which a condition may hold, and those for which it may not."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inside, outside = _asked(test.operand)
        return outside, inside
    if isinstance(test, ast.Attribute | ast.Name) and _last(test).endswith("is_rtx"):
        return RTX, ALL - RTX
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.comparators[0], ast.Constant):
        named = {"tensorrt-rtx": RTX, "tensorrt": ALL - RTX}.get(test.comparators[0].value)
        if named and isinstance(test.ops[0], ast.Eq | ast.NotEq):
            return (named, ALL - named) if isinstance(test.ops[0], ast.Eq) else (ALL - named, named)
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return frozenset.intersection(*(_asked(value)[0] for value in test.values)), ALL
    return ALL, ALL


def _use(node: ast.Attribute, products: frozenset[str]) -> Iterator[Use]:
    owner = _last(node.value)
    if node.attr.startswith("__") and node.attr != "__version__":
        return  # what every class of Python has
    if isinstance(node.value, ast.Attribute) and _last(node.value.value) in MODULES:
        yield Use(node.lineno, node.value.attr, node.attr, products)  # trt.Enum.MEMBER
    elif owner in MODULES:
        yield Use(node.lineno, "", node.attr, products)
    elif owner in CLASSES and node.attr not in OF_FILES:
        yield Use(node.lineno, CLASSES[owner], node.attr, products)


def _last(node: ast.expr) -> str:
    """`self._context` and `context` are both "context"."""
    if isinstance(node, ast.Attribute):
        return node.attr.lstrip("_")
    return node.id.lstrip("_") if isinstance(node, ast.Name) else ""
