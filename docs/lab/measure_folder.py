"""How much longer a folder takes than its engine: decoding and encoding go on beside it. Writes folder.json here.

python docs/lab/measure_folder.py [--pictures 100] [--size 256x256] [--engine openvino] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from unblur.core.artefacts import write_json
from unblur.core.provenance import machine, package_versions
from unblur.engines.base import BaseRunner
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.networks.checkpoints import load_checkpoint
from unblur.pipeline.deblur.folder import Opened, deblur_pictures
from unblur.pipeline.deblur.tasks import plan_tasks
from unblur.pipeline.opening import open_runner
from unblur.pipeline.places import artefact_folder, bundled_checkpoint
from unblur.pipeline.store import Store

KEY = ("engine", "threads", "size")


class Stopped(BaseRunner):
    """A runner, and the seconds that it ran."""

    def __init__(self, runner):
        super().__init__(runner.signature, runner.description)
        self.runner, self.seconds = runner, 0.0

    def _run(self, tensor):
        began = time.perf_counter()
        result = self.runner.run(tensor)
        self.seconds += time.perf_counter() - began
        return result

    def _release(self):
        self.runner.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    height, width = map(int, arguments.size.split("x"))
    checkpoint = load_checkpoint(bundled_checkpoint())
    store = Store(artefact_folder())
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        blurred, _ = synthetic_pair(0, height, width, "heldout")
        for k in range(arguments.pictures):
            frame = np.roll(blurred, k, axis=1)
            write_picture(root / "in" / f"{k:04}.png", Picture(frame), frame)
        runner = Stopped(
            open_runner(arguments.engine, checkpoint, store, lambda: {(height, width): 1}, threads=arguments.threads)
        )
        plan = plan_tasks(root / "in", root / "out")
        began = time.perf_counter()
        outcome = deblur_pictures(plan, lambda data: str(len(data)), lambda: Opened(runner))
        took = time.perf_counter() - began
    told = {
        "network": checkpoint.name, "engine": arguments.engine, "threads": arguments.threads,
        "pictures": outcome.done, "size": [height, width], "folder_s": round(took, 2),
        "engine_s": round(runner.seconds, 2), "times_the_engine": round(took / runner.seconds, 3),
        "machine": machine(), "versions": package_versions(),
    }  # fmt: skip
    path = Path(__file__).with_name("folder.json")
    rows = json.loads(path.read_text())["folders"] if path.exists() else []
    same = [row for row in rows if (row["engine"], row["threads"], row["size"]) != tuple(told[k] for k in KEY)]
    write_json(path, {"folders": [*same, told]})
    print({key: told[key] for key in (*KEY, "pictures", "folder_s", "engine_s", "times_the_engine")})


if __name__ == "__main__":
    main()
