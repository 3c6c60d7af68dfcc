"""What came back from a GPU machine -> reports below compare/baselines/, under the card's name.

    write_report.py FOLDER... [--output compare/baselines]

FOLDER: each step's $OUT. `facts.json` becomes machine.json, every line of speed.jsonl with a measurement becomes a row
of speed.json (what failed stands in refused.json), profile.json and rtx*.json go as they are, numbers to five digits.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unblur.cli.door import door
from unblur.core.artefacts import write_json
from unblur.core.errors import InputError

DIGITS = 5


def rounded(value: Any) -> Any:
    """Numbers to five digits: more are noise, and make the files long."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def card(name: str) -> str:
    """The card in a folder's name: "NVIDIA H100 80GB HBM3" -> "h100"."""
    words = re.sub(r"(?i)nvidia|geforce|\d+ ?gb|hbm\S*|pcie|sxm\S*", " ", name).split()
    return "-".join(re.sub(r"[^a-z0-9]", "", word.lower()) for word in words) or "gpu"


def read(folders: list[Path]) -> dict[str, Any]:
    """The files that came back, the later step's over the earlier's; lines of speed of all of them.

    Raises InputError where facts.json is missing or tells of no GPU.
    """
    found: dict[str, Any] = {"speed": []}
    for folder in folders:
        for path in sorted(folder.rglob("*.json")):
            found[path.stem] = json.loads(path.read_text())
        for path in sorted(folder.rglob("speed*.jsonl")):
            found["speed"] += [json.loads(line) for line in path.read_text().splitlines()]
    torch = found.get("facts", {}).get("torch")
    if not isinstance(torch, dict) or not torch.get("available"):
        raise InputError(f"{', '.join(map(str, folders))}: no facts.json of a machine with a GPU; run step 1 there.")
    return found


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder, and say where it is and what docs/ needs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[2] / "compare" / "baselines")
    arguments = parser.parse_args(argv)
    found = read(arguments.folders)
    folder = arguments.output / f"gpu-{card(found['facts']['torch']['name'])}"
    folder.mkdir(parents=True, exist_ok=True)
    measured = {(row["network"], row["engine"], row["size"]): row for row in found["speed"] if "gpu_ms" in row}
    refused = [row for row in found["speed"] if "gpu_ms" not in row]
    written = {
        "machine": found["facts"],
        "speed": [{key: value for key, value in row.items() if key != "at_s"} for row in measured.values()],
        **({"refused": refused} if refused else {}),
        **{name: found[name] for name in ("profile", "rtx", "rtx-more") if name in found},
    }
    for name, values in written.items():
        write_json(folder / f"{name}.json", rounded(values))
        print(folder / f"{name}.json")
    print(f"Show it: put `<!-- numbers: compare/baselines/{folder.name}/speed.json -->` and `<!-- end -->` into "
          "docs/gpu.md, and run `make numbers`.")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
