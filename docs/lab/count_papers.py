"""Arithmetic and operators of one frame, for the networks of papers.json; writes them into it. Seconds, no weights.

    python docs/lab/count_papers.py

Multiply-accumulates by `count_macs`; operators are what eager PyTorch launches one after the other: all that it
dispatches but for views, which only look at memory differently.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from unblur.core.artefacts import write_json
from unblur.networks.registry import build_network
from unblur.networks.size import count_macs

PAPERS = Path(__file__).parent / "papers.json"


class Launched(TorchDispatchMode):
    """Counts the operators that make new values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view and not str(func).startswith(("aten.detach", "aten._unsafe_view"))
        return func(*args, **(kwargs or {}))


def main() -> None:
    values = json.loads(PAPERS.read_text())
    for row in values["stated"]:
        size = tuple(row["size"])
        with torch.device("meta"):
            network = build_network(row["network"]).eval()
            frame = torch.zeros(1, 3, *size)
        row["macs"] = count_macs(network, size)
        with torch.inference_mode(), Launched() as launched:
            network(frame)
        row["operators"] = launched.count
    write_json(PAPERS, values)


if __name__ == "__main__":
    main()
