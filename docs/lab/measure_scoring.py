"""What scoring costs: CPU seconds a frame of 720x1280, frames a second on two threads, and memory over many pairs.

    python docs/lab/measure_scoring.py [--pairs 300] [--size 96x128] [--scored 12]

Pairs are drawn into a temporary folder. One small network runs, so that nearly all of the time is decoding and scoring.
Peak memory is of this very process, read after every hundred frames; it should stand still.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from unblur.compare.candidates import Candidate
from unblur.compare.comparison import Settings, compare_engines
from unblur.compare.measure.fidelity import quality
from unblur.compare.measure.frames import find_frames
from unblur.core.overlap import ahead
from unblur.engines.catalogue import open_engine
from unblur.images.files import Picture, write_picture
from unblur.images.synthetic import synthetic_pair
from unblur.networks.banet.network import BANet, BANetSpec
from unblur.networks.checkpoints import load_checkpoint, save_checkpoint


def peak_mb() -> float:
    """Largest resident memory so far, in 1e6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure_scores(count: int) -> None:
    """PSNR and both SSIMs of pairs of 720x1280."""
    blurred, sharp = synthetic_pair(0, 720, 1280, "heldout")
    quality(blurred, sharp)
    cpu, wall = time.process_time(), time.perf_counter()
    with ahead(range(count), lambda _: quality(blurred, sharp), workers=2) as scores:
        found = list(scores)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores; {found[0]}")
    print(f"{cpu / count:.3f} CPU seconds a frame ({2 * count / cpu:.1f} frames/s on two free cores)")
    print(f"{count / wall:.1f} frames/s by the clock on two threads")


class Told:
    """Progress that tells memory."""

    def note(self, text: str) -> None:
        print(text)

    def track(self, items, text, total):
        for done, item in enumerate(items, start=1):
            yield item
            if done % 100 == 0 or done == total:
                print(f"{text}: {done}/{total}, peak {peak_mb():.0f} MB")

    def stage(self, text):
        raise NotImplementedError(text)


def measure_memory(pairs: int, height: int, width: int) -> None:
    """A comparison of so many pairs, with two engines and no latency."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        blurred, sharp = synthetic_pair(0, height, width, "heldout")
        for k in range(pairs):
            for kind, picture in (("blurred", blurred), ("sharp", sharp)):
                frame = np.roll(picture, k, axis=1)
                write_picture(root / kind / f"{k:05}.png", Picture(frame), frame)
        torch.manual_seed(0)
        save_checkpoint(BANet(BANetSpec(depth=1, stem_width=2, width=4, fuse_width=2)), root / "tiny.safetensors")
        checkpoint = load_checkpoint(root / "tiny.safetensors")
        engine = Candidate(
            "torch-channels-last", lambda _: open_engine("torch-channels-last", checkpoint, None, threads=1)
        )
        print(f"{pairs} pairs of {height}x{width}: before, peak {peak_mb():.0f} MB")
        began = time.perf_counter()
        frames = find_frames(root / "blurred", root / "sharp")
        settings = Settings(threads=1, protocol=None)
        report = compare_engines(checkpoint, [engine], frames, settings, Told())
        print(f"{time.perf_counter() - began:.0f} s; {len(report.engines[0].frames)} frames, peak {peak_mb():.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=300, help="0: scores alone")
    parser.add_argument("--size", default="96x128")
    parser.add_argument("--scored", type=int, default=12)
    arguments = parser.parse_args()
    measure_scores(arguments.scored)
    height, width = map(int, arguments.size.split("x"))
    if arguments.pairs:
        measure_memory(arguments.pairs, height, width)


if __name__ == "__main__":
    main()
