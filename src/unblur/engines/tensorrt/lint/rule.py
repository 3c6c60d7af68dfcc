"""What a rule is, and for what a graph is held to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from unblur.engines.tensorrt.product import OLDEST_TENSORRT, ProductName
from unblur.graphs.view import GraphView


@dataclass(frozen=True)
class Request:
    """For what a graph is held to the rules: `target` is a GPU family ("sm89") or "portable"; `version` (major, minor).

    Without a version the oldest release that unblur takes is meant, for which the most rules hold.
    """

    product: ProductName
    target: str
    version: tuple[int, int] = OLDEST_TENSORRT

    @property
    def sm(self) -> int | None:
        """89 for "sm89"; None for a portable engine, which is for Ampere and later."""
        return int(self.target[2:]) if self.target.startswith("sm") else None


Hit = tuple[NodeProto, str]
"""A node that breaks a rule, and what is wrong with it."""


@dataclass(frozen=True)
class Rule:
    """`sources` tells for each product that has the rule where it is known from; other products do not have it.

    `refused`: the product gives no engine. Else it gives one that does something else than the graph says.
    """

    name: str
    check: Callable[[LintView], Iterable[Hit]]
    cure: str
    sources: Mapping[ProductName, str]
    refused: bool = True


def all_ones(values: Any) -> bool:
    """Whether a list attribute is empty or made of ones."""
    return bool(np.all(np.asarray(values) == 1))


class LintView(GraphView):
    """A graph, and for what it is held to the rules."""

    def __init__(self, model: onnx.ModelProto, request: Request) -> None:
        super().__init__(model)
        self.request = request
