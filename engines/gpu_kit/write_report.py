"""What came back from a GPU machine -> reports below compare/baselines/, under the card's name.

    write_report.py FOLDER... [--output compare/baselines]

FOLDER: each step's $OUT. `facts.json` becomes machine.json, every line of speed.jsonl with a measurement becomes a row
of speed.json (what failed stands in refused.json), rtx*.json go as they are, numbers to five digits. Under the same
driver, PyTorch and cuDNN what the folder has and these runs have not is kept, under others they get a folder of their
own: a short run replaces no long one. A report of `unblur speed` gets a folder of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
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
    found: dict[str, Any] = {"speed": [], "reports": []}
    for folder in folders:
        for path in sorted(folder.rglob("*.json")):
            if path.name == "report.json":
                found["reports"].append(path)
            else:
                found[path.stem] = json.loads(path.read_text())
        for path in sorted(folder.rglob("speed*.jsonl")):
            found["speed"] += [json.loads(line) for line in path.read_text().splitlines()]
    torch = found.get("facts", {}).get("torch")
    if not isinstance(torch, dict) or not torch.get("available"):
        raise InputError(f"{', '.join(map(str, folders))}: no facts.json of a machine with a GPU; run step 1 there.")
    return found


def software(facts: dict[str, Any]) -> tuple[Any, ...]:
    """What numbers of one card hang on: the driver, PyTorch and cuDNN."""
    driver = str(facts.get("nvidia_smi") or "none").splitlines()[-1].split(", ")[1:2]
    packages = facts.get("packages") or {}
    return *driver, packages.get("torch"), packages.get("nvidia-cudnn-cu13")


def place(output: Path, facts: dict[str, Any]) -> Path:
    """The card's folder; where that is of other software, one of its own: nothing measured is replaced unasked."""
    folder = output / f"gpu-{card(facts['torch']['name'])}"
    there = folder / "machine.json"
    if there.is_file() and software(json.loads(there.read_text())) != software(facts):
        words = "-".join(str(word) for word in software(facts))
        return folder.with_name(f"{folder.name}-{re.sub('[^a-z0-9]+', '-', words.lower())}")
    return folder


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A profile: kernels of both runs; convolutions of the newer, unless its time was over before all were seen."""
    kernels = {"kernels": old.get("kernels", {}) | new["kernels"]}
    cut = not new["conv"] or any("skipped" in row for row in new["conv"])
    return old | new | kernels | ({key: old[key] for key in ("conv", "conv_total") if key in old} if cut else {})


@door
def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder, and say where it is and what docs/ needs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[2] / "compare" / "baselines")
    arguments = parser.parse_args(argv)
    found = read(arguments.folders)
    folder = place(arguments.output, found["facts"])
    folder.mkdir(parents=True, exist_ok=True)
    known = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    rows = [*known.get("speed", []), *(row for row in found["speed"] if "gpu_ms" in row)]
    measured = {(row["network"], row["engine"], row["size"]): row for row in rows}
    if "profile" in found:
        found["profile"] = joined(known.get("profile", {}), found["profile"])
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
    for path in found["reports"]:
        values = json.loads(path.read_text())
        network, timed = values["network"].replace("_", "-"), values["latency"]
        size, name = f"{timed['height']}x{timed['width']}", folder.name.removeprefix("gpu-")
        to = arguments.output / f"{path.parent.name}-{network}-{size}-{name}"
        shutil.copytree(path.parent, to, dirs_exist_ok=True)
        print(to / path.name)
    print(f"Show it: put `<!-- numbers: compare/baselines/{folder.name}/speed.json -->` and `<!-- end -->` into "
          "docs/gpu.md, and run `make numbers`.")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
